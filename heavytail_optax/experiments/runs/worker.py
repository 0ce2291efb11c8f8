"""A worker: takes the next run that nobody holds, until none is left.

The lock of a run is the queue. A command started several times, on one host or on many,
is several workers on one grid.
"""

import traceback
from typing import NamedTuple

import jax

from heavytail_optax.experiments.devices.processes import (
    in_any_process,
    of_first_process,
)
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.runs.carry_out import Load, carry_out
from heavytail_optax.experiments.runs.grid import Grid
from heavytail_optax.experiments.runs.grid_progress import GridProgress
from heavytail_optax.experiments.runs.options import RunOptions
from heavytail_optax.experiments.runs.result import RunResult, read_result
from heavytail_optax.experiments.runs.run import Run
from heavytail_optax.experiments.storage.durable_files import (
    make_directory,
    replace_file,
)
from heavytail_optax.experiments.storage.run_lock import RunBusyError
from heavytail_optax.experiments.terminal.session import Session


class Work(NamedTuple):
    """What the runs of a grid have come to."""

    results: dict[Run, RunResult]  # of all runs
    failed: dict[Run, str]  # those that could not go on -> why
    busy: list[Run]  # those that other processes hold

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return all(result.is_done for result in self.results.values())

    @property
    def left(self) -> list[Run]:
        """Those that wait for somebody to go on with them."""
        others = {*self.failed, *self.busy}
        return [
            run
            for run, result in self.results.items()
            if not result.is_done and run not in others
        ]


def work(
    grid: Grid, command: str, session: Session, load: Load, options: RunOptions
) -> Work:
    """Takes run after run to its end; one that fails does not hold up the others."""
    results = {run: read_result(run) for run in grid.runs()}
    found = Work(results, {}, [])
    progress = GridProgress(session.progress, results)
    stop = session.stop.is_set
    while True:
        found.busy.clear()
        taken = 0
        for run in grid.runs():
            if in_any_process(stop()):
                return found
            if not results[run].is_done:
                results[run] = read_result(run)  # another process may have done it
            # One decision for all processes: they see a shared disk at other times.
            if of_first_process(results[run].is_done) or run in found.failed:
                continue
            progress.begin(run)
            problem: Exception | None = None
            try:
                results[run] = carry_out(
                    run, grid.preset, command, progress, load, stop, options
                )
                taken += 1
            # Too little memory for one method, say, must not cost the others their night.
            except Exception as error:
                # The others must not wait for this process.
                if jax.process_count() > 1 and not isinstance(error, JobError):
                    raise
                problem = error
                results[run] = read_result(run)
            # Only the process that writes has the lock.
            if in_any_process(isinstance(problem, RunBusyError)):
                found.busy.append(run)
            elif problem is not None:
                found.failed[run] = _in_words(run, problem)
                progress.note(f"{run.label} failed: {found.failed[run]}")
            progress.end()
        # A run that was in other hands may have been left in the meantime.
        if not (found.busy and taken):
            return found


def _in_words(run: Run, error: Exception) -> str:
    """What went wrong; all of an error that nobody expected is in the run's directory."""
    if isinstance(error, JobError):
        return str(error)
    first = f"{type(error).__name__}: {error}".splitlines()[0]
    try:
        make_directory(run.directory)
        replace_file(run.paths.failure, "".join(traceback.format_exception(error)))
    except OSError:
        return first
    return f"{first} (all of it is in {run.paths.failure})"
