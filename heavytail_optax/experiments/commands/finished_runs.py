"""What `flatness` and `diagnose` share: they measure finished runs, one after the other."""

import contextlib
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console, RenderableType

from ..data.dataset import Dataset
from ..errors import DataError, StoppedError
from ..files import replace_file
from ..report.flatness import MeasuredRun
from ..report.noise import DiagnosedRun
from ..report.style import save_figure
from ..runs.grid import Run
from ..runs.result import RunResult, finished_runs, read_result
from ..runs.run import Load, cached_loader, check_run, final_params
from ..runs.worker import in_words
from ..storage.run_directory import RunBusyError, RunLock, disk_errors, grid_lock
from ..terminal import Progress
from .options import AskedRuns

Known = TypeVar("Known")


class Measuring(NamedTuple, Generic[Known]):
    """How a command measures a run, and what it then shows."""

    name: str  # of the files
    on_stop: str
    forget: Callable[[Run], None]
    known: Callable[[Run, RunResult], Known]  # what has been measured of a run
    is_measured: Callable[[Known], bool]
    remarks: Callable[[Known], Sequence[str]]  # on what stays as it was measured
    measure: Callable[[Run, Dataset, Any, Progress], bool]  # False if it was stopped
    results: Callable[[Sequence[Known], int, Progress], "Results | None"]  # and width


class Results(NamedTuple):
    """What is known of the runs, now or from earlier."""

    printed: Sequence[RenderableType]
    values: pd.DataFrame  # for the CSV file
    runs: Sequence[MeasuredRun] | Sequence[DiagnosedRun]
    draw: Callable[[Any], Figure | None]


def measure_finished(
    measuring: Measuring[Any],
    asked: AskedRuns,
    directory: pathlib.Path,
    typed: str,
    has_cache: bool,
) -> int:
    """Measures the runs that are asked for, each under its lock; the exit status."""
    console = Console()
    grid, results_of, others = finished_runs(directory, asked.methods, asked.seeds)
    runs = list(results_of)
    problems: list[str] = []
    with Progress(console, measuring.on_stop) as progress:
        # The data are those that the runs of the directory were trained on.
        data_dir = asked.data_dir or grid.machine.data_dir
        load = cached_loader(data_dir, progress.reading, has_cache)
        for line in others:
            progress.note(f"{line}: skipped")
        if asked.again:
            # All are looked at before anything is dropped: none loses what it has and
            # cannot have again.
            for run in runs:
                # A run that another process holds is reported below.
                with contextlib.suppress(RunBusyError), RunLock(run.directory):
                    _trained(run, load, progress)
            for run in runs:
                with contextlib.suppress(RunBusyError), RunLock(run.directory):
                    measuring.forget(run)
                    results_of[run] = read_result(run)
        found = {run: measuring.known(run, each) for run, each in results_of.items()}
        progress.plan({run.label: 1.0 for run in runs}, [])
        for run in runs:
            if progress.stop.is_set():
                break
            for remark in measuring.remarks(found[run]):
                progress.note(f"{run.label}: {remark}.")
            if measuring.is_measured(found[run]):
                progress.note(f"{run.label}: already measured")
                progress.done(run.label)
                continue
            try:
                if _measure(measuring, run, load, progress):
                    progress.done(run.label)
            except (DataError, StoppedError):  # The others have the same data.
                raise
            # Too little memory for one run must not cost the others their table.
            except Exception as error:  # noqa: BLE001
                problems.append(f"{run.label}: {in_words(run, error)}")
    try:
        # Read under the lock, so that no process writes what is out of date.
        with grid_lock(directory):
            found = {run: measuring.known(run, read_result(run)) for run in runs}
            with Progress(console, "Stopping after this part.") as fitting:
                known = list(found.values())
                results = measuring.results(known, console.width, fitting)
            if results is not None:
                _show(results, directory / measuring.name, console)
    finally:
        for problem in problems:
            print(problem, file=sys.stderr)
    left = not all(measuring.is_measured(each) for each in found.values())
    if left:
        # What --again asks for is dropped above, so that going on does not start anew.
        words = [word for word in shlex.split(typed) if word != "--again"]
        go_on = f"To go on: {shlex.join(words)}"
        console.print(go_on, highlight=False, soft_wrap=True)
    return (progress.stop.exit_status or 1) if left else 0


def _measure(
    measuring: Measuring[Any], run: Run, load: Load, progress: Progress
) -> bool:
    """Measures a run under its lock; False if it was stopped."""
    with disk_errors(run.directory), RunLock(run.directory):
        # Another process may have measured it since it was looked at.
        if measuring.is_measured(measuring.known(run, read_result(run))):
            progress.note(f"{run.label}: already measured")
            return True
        return measuring.measure(run, *_trained(run, load, progress), progress)


def _trained(run: Run, load: Load, progress: Progress) -> tuple[Dataset, Any]:
    """The data and the parameters of a run, if they are those that it ended with."""
    dataset = load(run.settings)
    check_run(run, dataset, progress.note)
    return dataset, final_params(run, dataset, progress.note)


def _show(results: Results, path: pathlib.Path, console: Console) -> None:
    """The tables and the picture, also as files."""
    for each in results.printed:
        console.print(each)
    table, picture = path.with_suffix(".csv"), path.with_suffix(".png")
    replace_file(table, results.values.to_csv(index=False))
    written = [table]
    drawn: dict[str, MeasuredRun | DiagnosedRun] = {}
    for each in results.runs:  # few enough to be told apart by their colours
        drawn.setdefault(each.run.method, each)
    if save_figure(results.draw(list(drawn.values())), picture):
        written.append(picture)
        if len(drawn) < len(results.runs):
            console.print("The picture has the first seed of each method.")
    for file in written:
        console.print(f"Written: {file}", highlight=False, soft_wrap=True)
