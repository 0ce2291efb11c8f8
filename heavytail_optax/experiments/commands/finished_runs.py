"""What `flatness` and `diagnose` share: they measure finished runs, one after the other."""

import contextlib
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.console import Console

from heavytail_optax.experiments.commands.options import (
    DiagnoseOptions,
    FlatnessOptions,
)
from heavytail_optax.experiments.data.dataset import Dataset
from heavytail_optax.experiments.errors import DataError, JobError
from heavytail_optax.experiments.runs.grid import Run
from heavytail_optax.experiments.runs.result import finished_runs
from heavytail_optax.experiments.runs.run import (
    Load,
    cached_loader,
    check_run,
    final_params,
)
from heavytail_optax.experiments.storage.run_directory import disk_errors
from heavytail_optax.experiments.storage.run_lock import RunBusyError, RunLock
from heavytail_optax.experiments.terminal.progress import Progress


class Measuring(NamedTuple):
    """How a command measures a run, and what it then shows."""

    on_stop: str
    ask_again: Callable[[Run], None]
    is_measured: Callable[[Run], bool]
    measure: Callable[[Run, Dataset, Any, Progress], bool]  # False if it was stopped
    show: Callable[[Sequence[Run], Console], None]


def measure_finished(
    measuring: Measuring,
    options: FlatnessOptions | DiagnoseOptions,
    directory: pathlib.Path,
    typed: str,
) -> int:
    """Measures the runs that are asked for, each under its lock; the exit status."""
    console = Console()
    grid, runs, others = finished_runs(directory, options.methods, options.seeds)
    # The data are those that the runs of the directory were trained on.
    load = cached_loader(options.data_dir or grid.machine.data_dir)
    problems: list[str] = []
    with Progress(console, measuring.on_stop) as progress:
        for line in others:
            progress.note(f"{line}: skipped")
        if options.again:
            for run in runs:
                # A run that another process holds is reported below.
                with contextlib.suppress(RunBusyError), RunLock(run.directory):
                    measuring.ask_again(run)
        progress.plan({run.label: 1.0 for run in runs}, [])
        for run in runs:
            if measuring.is_measured(run):
                progress.note(f"{run.label}: already measured")
            elif progress.stop.is_set():
                break
            else:
                try:
                    with disk_errors(run.directory), RunLock(run.directory):
                        if not _measure(measuring, run, load, progress):
                            break
                except DataError:  # The others have the same data.
                    raise
                except JobError as error:
                    problems.append(f"{run.label}: {error}")
            progress.done(run.label)
    measuring.show(runs, console)
    for problem in problems:
        print(problem, file=sys.stderr)
    left = not all(measuring.is_measured(run) for run in runs)
    if left:
        # --again is noted, so that going on does not start anew.
        words = [word for word in shlex.split(typed) if word != "--again"]
        go_on = f"To go on: {shlex.join(words)}"
        console.print(go_on, highlight=False, soft_wrap=True)
    return (progress.stop.exit_status or 1) if left else 0


def _measure(measuring: Measuring, run: Run, load: Load, progress: Progress) -> bool:
    dataset = load(run.settings)
    check_run(run, dataset, progress.note)
    params = final_params(run, dataset, progress.note)
    return measuring.measure(run, dataset, params, progress)
