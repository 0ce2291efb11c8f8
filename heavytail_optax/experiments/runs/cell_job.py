"""One cell of a grid as a job of submitit: what is carried out at the other end."""

import dataclasses
import pathlib
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Literal

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.presets import PresetName
from heavytail_optax.experiments.runs.job_options import ClusterName
from heavytail_optax.experiments.runs.machine import Machine
from heavytail_optax.experiments.terminal.interrupts import StopRequest

JobStatus = Literal["finished", "interrupted", "diverged", "busy", "failed"]


@dataclasses.dataclass(frozen=True)
class CellJob:
    """Plain values, so that it can be pickled, and a call that does the work.

    Attributes:
      directory: of the cell, absolute.
      preset: that its settings come from.
      settings: of the cell, as `dataclasses.asdict` gives them.
      command: as typed.
      machine: where and how it runs.
      cluster: which kind of job it is.
    """

    directory: pathlib.Path
    preset: PresetName
    settings: Mapping[str, Any]
    command: str
    machine: Machine
    cluster: ClusterName

    def __call__(self) -> tuple[JobStatus, str]:
        """Trains and measures; returns what came of it, and the error in words.

        The signal that submitit asks for ahead of a time limit or a preemption stops the
        run after the steps in hand. When they are saved the signal comes again, to
        submitit, which puts the job back in the queue.
        """
        ahead_of_the_limit = _signal_ahead_of_the_limit()
        # On SLURM, SIGTERM also announces a preemption, and submitit ignores it.
        on_cancel = (signal.SIGTERM,) if self.cluster == "local" else ()
        with StopRequest(_say_stopping, (*on_cancel, ahead_of_the_limit)) as stop:
            try:
                status = self._run(stop.is_set)
            except JobError as error:
                print(error, file=sys.stderr, flush=True)
                return _status_of(error), str(error)
            except Exception as error:  # noqa: BLE001 - told where the grid is watched
                traceback.print_exc()
                return "failed", f"{type(error).__name__}: {error}".splitlines()[0]
        if status == "interrupted" and stop.signal == ahead_of_the_limit:
            signal.raise_signal(ahead_of_the_limit)
        return status, ""

    def checkpoint(self) -> Any:
        """What submitit puts back in the queue: the same, as all else is on the disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _run(self, should_stop: Callable[[], bool]) -> JobStatus:
        # These load JAX, Flax and Orbax, when signals are taken care of.
        from rich.console import Console

        from heavytail_optax.experiments.runs.cell import data_loader, run_cell
        from heavytail_optax.experiments.runs.grid import Cell
        from heavytail_optax.experiments.runs.machine import run_options
        from heavytail_optax.experiments.settings import from_dict
        from heavytail_optax.experiments.terminal.progress import PlainProgress

        settings = from_dict(self.settings)
        result = run_cell(
            Cell(self.directory, settings),
            self.preset,
            self.command,
            PlainProgress(Console(), settings.training.steps),
            data_loader(self.machine.data_dir),
            should_stop,
            run_options(self.machine),
        )
        return result.status


def _signal_ahead_of_the_limit() -> signal.Signals:
    from submitit import JobEnvironment

    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]


def _say_stopping() -> None:
    print("Stopping after these steps.", flush=True)


def _status_of(error: JobError) -> JobStatus:
    from heavytail_optax.experiments.storage.run_lock import RunBusyError

    return "busy" if isinstance(error, RunBusyError) else "failed"
