"""`heavytail report`: the table of a grid, its files and its picture."""

import pathlib

from rich.console import Console

from ..report.report import report_table, write_report
from ..report.style import save_figure
from ..report.summary import build_report, runs_table
from ..report.training import draw_followed
from ..runs.grid import read_grid
from ..runs.result import read_results
from ..storage.run_directory import grid_lock
from .options import ReportOptions


def run(options: ReportOptions, typed: str) -> int:
    """Shows the report; the exit status."""
    del typed
    read_grid(options.directory)  # Nothing is written where there is none.
    show_report(options.directory, Console())
    return 0


def show_report(directory: pathlib.Path, console: Console) -> None:
    """Prints the table of a grid and writes its report."""
    # Read under the lock, so that no process writes what is out of date.
    with grid_lock(directory):
        grid = read_grid(directory)
        results = read_results(grid)
        table = runs_table(list(results.values()), [run.name for run in results])
        report = build_report(grid.preset, table)
        files = write_report(directory, report)
        picture = directory / "sharpness_over_steps.png"
        followed = save_figure(draw_followed(list(results.values())), picture)
    console.print(report_table(report, console.width))
    finished = sum(result.status == "finished" for result in results.values())
    if finished < len(results):
        counted = f"{finished} of {len(results)} runs are finished."
        console.print(counted if finished else "No run is finished yet.")
    for path in filter(None, (*files, picture if followed else None)):
        console.print(f"Written: {path}", highlight=False, soft_wrap=True)
