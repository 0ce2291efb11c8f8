"""A worker: takes the next run that nobody holds, until none is left.

The lock of a run is the queue. A command started several times, on one host or on many,
is several workers on one grid.
"""

import sys
import traceback
from collections.abc import Mapping
from typing import NamedTuple

import jax

from ..errors import JobError, StoppedError
from ..files import make_directory, replace_file
from ..parallel import any_process, from_first_process
from ..storage.run_directory import RunBusyError
from ..terminal import Progress
from .grid import Grid, Run
from .result import RunResult, read_result, read_results
from .run import Load, carry_out


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
    grid: Grid,
    command: str,
    progress: Progress,
    load: Load,
    known: Mapping[Run, RunResult] | None = None,
) -> Work:
    """Takes run after run to its end; one that fails does not hold up the others."""
    found = Work(dict(known or read_results(grid)), {}, [])
    results, failed, busy = found
    images = {
        run.label: result.steps * (result.examples_per_step or 1.0)
        for run, result in results.items()
    }
    progress.plan(images, _labels_done(results))
    while True:
        busy.clear()
        taken = 0
        for run in results:
            if any_process(progress.stop.is_set()):
                return found
            if not results[run].is_done:
                results[run] = read_result(run)  # another process may have done it
            # One decision for all processes: they see a shared disk at other times.
            if from_first_process(results[run].is_done) or run in failed:
                continue
            problem: Exception | None = None
            try:
                results[run] = carry_out(
                    run, grid.preset, command, progress, load, grid.machine
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
            if any_process(isinstance(problem, RunBusyError)):
                busy.append(run)
            # What a signal has stopped is left, which all processes see above.
            elif problem is not None and not isinstance(problem, StoppedError):
                failed[run] = in_words(run, problem)
                progress.note(f"{run.label} failed: {failed[run]}")
            progress.done(*_labels_done(results))
        # A run that was in other hands may have been left in the meantime.
        if not (busy and taken):
            return found


def report_problems(done: Work, go_on: str, progress: Progress) -> int:
    """Says what failed, what others hold and how to go on; the exit status."""
    for run, problem in done.failed.items():
        print(f"{run.label}: {problem}", file=sys.stderr)
    if done.busy:
        names = ", ".join(run.label for run in done.busy)
        progress.note(f"Other processes work on: {names}.")
    if not (done.left or done.failed):
        return 0
    progress.note(f"To go on: {go_on}")
    return progress.stop.exit_status or 1


def _labels_done(results: dict[Run, RunResult]) -> list[str]:
    return [run.label for run, result in results.items() if result.is_done]


def in_words(run: Run, error: Exception) -> str:
    """What went wrong; the traceback of an unexpected error is in the run's directory."""
    if isinstance(error, JobError):
        return str(error)
    first = f"{type(error).__name__}: {error}".splitlines()[0]
    try:
        make_directory(run.directory)
        replace_file(run.paths.failure, "".join(traceback.format_exception(error)))
    except OSError:
        return first
    return f"{first} (all of it is in {run.paths.failure})"
