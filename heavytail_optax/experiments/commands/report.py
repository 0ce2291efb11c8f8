"""`heavytail report`: the table of a grid, its files and its picture."""

from collections.abc import Mapping

from rich.console import Console

from ..report.report import report_table, write_report
from ..report.summary import build_report, runs_table
from ..runs.grid import Grid, Run, read_grid
from ..runs.result import RunResult, read_results
from .options import ReportOptions


def run(options: ReportOptions, typed: str) -> int:
    """Shows the report; the exit status."""
    del typed
    grid = read_grid(options.directory)
    show_report(grid, read_results(grid), Console())
    return 0


def show_report(grid: Grid, results: Mapping[Run, RunResult], console: Console) -> None:
    """Prints the table of a grid and writes its report."""
    table = runs_table(list(results.values()), [run.name for run in results])
    report = build_report(grid.preset, table)
    files = write_report(grid.directory, report)
    console.print(report_table(report, console.width))
    finished = sum(result.status == "finished" for result in results.values())
    if finished < len(results):
        counted = f"{finished} of {len(results)} runs are finished."
        console.print(counted if finished else "No run is finished yet.")
    for path in filter(None, files):
        console.print(f"Written: {path}", highlight=False, soft_wrap=True)
