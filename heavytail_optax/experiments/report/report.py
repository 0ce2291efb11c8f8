"""The report of a grid: a page, two tables and a picture in its directory."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from heavytail_optax.experiments.report.csv_text import runs_csv, summary_csv
from heavytail_optax.experiments.report.figure import plot_report
from heavytail_optax.experiments.report.markdown import markdown_report
from heavytail_optax.experiments.report.rows import build_report
from heavytail_optax.experiments.runs.result import RunResult
from heavytail_optax.experiments.storage.durable_files import replace_file


class ReportFiles(NamedTuple):
    """Where the parts of a report are."""

    page: pathlib.Path  # Markdown
    summary: pathlib.Path  # CSV, one row a method
    runs: pathlib.Path  # CSV, one row a run
    picture: pathlib.Path | None  # PNG; None if there is nothing to draw yet


def write_report(
    directory: pathlib.Path, preset: str, cells: Sequence[RunResult]
) -> ReportFiles:
    """Writes the report, each file whole or not at all; earlier ones are replaced."""
    report = build_report(preset, cells)
    summary, runs = directory / "summary.csv", directory / "runs.csv"
    replace_file(summary, summary_csv(report))
    replace_file(runs, runs_csv(report))
    path = directory / "accuracy_against_sharpness.png"
    picture = path if plot_report(path, report) else None
    page = directory / "report.md"
    text = markdown_report(
        report,
        picture=picture.name if picture else None,
        tables=[summary.name, runs.name],
    )
    replace_file(page, text)
    return ReportFiles(page, summary, runs, picture)
