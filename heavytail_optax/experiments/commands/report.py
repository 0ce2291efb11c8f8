"""The command `heavytail report`."""

import dataclasses
import inspect
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from heavytail_optax.experiments.errors import JobError

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class ReportCommand:
    """Show the results of a grid of methods and seeds, finished or not.

    Prints the table, and writes it into the grid's directory as Markdown (report.md) and
    CSV (summary.csv with a row a method, runs.csv with a row a run), with a picture of
    test accuracy against sharpness (accuracy_against_sharpness.png). Figures of the
    paper's tables stand beside ours where there are some.

    Attributes:
      directory: Directory that `heavytail reproduce` or `heavytail train` made.
    """

    directory: pathlib.Path


def run(arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail report` and runs it."""
    command = _parse(arguments, f"{program} report")
    try:
        show_report(command.directory)
    except JobError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"The report cannot be written to {command.directory}: {error.strerror}.",
            file=sys.stderr,
        )
        return 1
    return 0


def _parse(arguments: Sequence[str], program: str) -> ReportCommand:
    import tyro

    about = inspect.getdoc(ReportCommand) or ""
    return tyro.cli(
        ReportCommand,
        prog=program,
        args=arguments,
        description=about.partition("Attributes:")[0].rstrip(),
        config=(tyro.conf.PositionalRequiredArgs,),
    )


def show_report(directory: pathlib.Path, console: "Console | None" = None) -> None:
    """Prints the table of a grid and writes its report."""
    # These load JAX, SciPy and Matplotlib, which takes seconds.
    from rich.console import Console

    from heavytail_optax.experiments.report.report import report_table, write_report
    from heavytail_optax.experiments.report.summary import build_report, runs_table
    from heavytail_optax.experiments.runs.grid import read_grid
    from heavytail_optax.experiments.runs.result import read_result

    grid = read_grid(directory)
    runs = grid.runs()
    results = [read_result(run) for run in runs]
    table = runs_table(results, [run.name for run in runs])
    report = build_report(grid.preset, table)
    files = write_report(directory, report)
    console = console or Console()
    console.print(report_table(report, console.width))
    finished = sum(result.status == "finished" for result in results)
    if finished < len(results):
        counted = f"{finished} of {len(results)} runs are finished."
        console.print(counted if finished else "No run is finished yet.")
    for path in files:
        if path is not None:
            console.print(f"Written: {path}", highlight=False, soft_wrap=True)
