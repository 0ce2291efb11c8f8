"""The report of a grid: a table for the terminal, a page, CSV files, a picture."""

import functools
import pathlib
import textwrap
from typing import NamedTuple

from rich.console import Group
from rich.text import Text

from ..files import replace_file
from .accuracy_figure import draw_report
from .style import save_figure
from .summary import (
    DIFFERENCE,
    FAILED,
    Report,
    cannot_show,
    label,
    named_runs,
    usual_arguments,
)
from .tables import (
    PAPER,
    Column,
    accuracy_error,
    format_difference,
    format_number,
    format_percent,
    format_with_error,
    markdown_table,
    mean_column,
    measure_heading,
    text_column,
    text_tables,
)

LEFT_OUT = " ‡"
_NAME_WIDTH = 23


class ReportFiles(NamedTuple):
    """Where the parts of a report are."""

    page: pathlib.Path  # Markdown
    summary: pathlib.Path  # CSV, one row a method
    runs: pathlib.Path  # CSV, one row a run
    picture: pathlib.Path | None  # PNG; None if there is nothing to draw yet


def write_report(directory: pathlib.Path, report: Report) -> ReportFiles:
    """Writes the report, each file whole or not at all; earlier ones are replaced."""
    summary, runs = directory / "summary.csv", directory / "runs.csv"
    replace_file(summary, report.summary.to_csv())
    replace_file(runs, report.runs.to_csv(index=False))
    path = directory / "accuracy_against_sharpness.png"
    picture = path if save_figure(draw_report(report), path) else None
    columns = [_names(report), *_lead(report, with_interval=True)]
    columns += [each for block in _blocks(report) for each in block]
    parts = [f"# {report.preset}", markdown_table(columns)]
    parts += [*cannot_show(report.runs), *_notes(report)]
    if picture is not None:
        parts.append(f"![Test accuracy against sharpness]({picture.name})")
    links = " and ".join(f"[{each.name}]({each.name})" for each in (summary, runs))
    parts.append(f"The same as CSV: {links}.")
    page = directory / "report.md"
    replace_file(page, "\n\n".join(parts) + "\n")
    return ReportFiles(page, summary, runs, picture)


def report_table(report: Report, width: int = 100) -> Group:
    """One row a method: accuracy, cost and sharpness, notes below."""
    # A run that failed can look flat: each further table has the accuracy again.
    wrap = textwrap.TextWrapper(_NAME_WIDTH, subsequent_indent="  ")
    name = Column("Method", [wrap.fill(text) for text in _names(report).texts])
    repeated = [name, _accuracy(report)]
    tables = text_tables([name, *_lead(report)], repeated, _blocks(report), width)
    lines = [Text(line) for line in cannot_show(report.runs)]
    return Group(*tables, *lines, *(Text(x, style="dim") for x in _notes(report)))


def _names(report: Report) -> Column:
    failed = report.summary["failed"].notna().items()
    return Column("Method", [label(name) + FAILED * has for name, has in failed])


def _accuracy(report: Report) -> Column:
    return mean_column("Test\n%", report.summary, format_percent, "test_accuracy")


def _lead(report: Report, *, with_interval: bool = False) -> list[Column]:
    """Seeds, accuracies and cost, with the paper's figures where there are some."""
    summary = report.summary
    counts = "seeds_finished", "seeds_asked", "left_out"
    columns = [text_column("Seeds", summary, _seeds, *counts), _accuracy(report)]
    paper = "paper_test_accuracy"
    if _has(report, paper):
        columns.append(text_column(PAPER, summary, lambda x: f"{100 * x:.2f}", paper))
    if _has(report, DIFFERENCE):
        heading = "Test minus\nSB"
        columns.append(mean_column(heading, summary, format_difference, DIFFERENCE))
        if with_interval:
            ends = f"{DIFFERENCE}_low", f"{DIFFERENCE}_high"
            columns.append(text_column("95%\ninterval", summary, _interval, *ends))
    return [
        *columns,
        text_column("Train\n%", summary, format_percent, "train_accuracy"),
        text_column("Images\na step", summary, "{:,.0f}".format, "examples_per_step"),
    ]


def _blocks(report: Report) -> list[list[Column]]:
    """The columns of each measure, with the paper's figures where there are some."""
    blocks = []
    for measure in report.measures:
        heading, paper = measure_heading(measure), f"paper_{measure}"
        block = [mean_column(heading, report.summary, format_with_error, measure)]
        if _has(report, paper):
            four_digits = functools.partial(format_number, digits=4)
            block.append(text_column(PAPER, report.summary, four_digits, paper))
        blocks.append(block)
    return blocks


def _has(report: Report, column: str) -> bool:
    return bool(report.summary[column].notna().any())


def _seeds(finished: int, asked: int, left_out: str | float) -> str:
    return f"{finished}/{asked}{LEFT_OUT * isinstance(left_out, str)}"


def _interval(low: float, high: float) -> str:
    return f"{format_difference(low)} to {format_difference(high)}"


def _notes(report: Report) -> list[str]:
    """One paragraph each: how to read the table, then what is wrong with which run."""
    runs, summary = report.runs, report.summary
    legend = (
        "Seeds: finished/asked for. Test and training accuracy and sharpness: mean ± "
        "standard error over the seeds (divisor n - 1) that finished."
    )
    if _has(report, DIFFERENCE):
        legend += (
            " Test minus SB: mean ± standard error of the differences between "
            "runs of the same seed, in percentage points; intervals are Student's t."
        )
    notes = [legend]
    single = runs[runs["name"].map(summary["test_accuracy_seeds"]) == 1]
    if not single.empty:
        accuracy = single["test_accuracy"][single["status"] == "finished"]
        error = accuracy_error(accuracy, single["test_images"].astype(float))
        note = "One seed has no standard error over seeds"
        if error.notna().any():
            note += (
                "; its test images alone leave the accuracy uncertain by "
                f"± {100 * error.max():.1f} (binomial)"
            )
        notes.append(f"{note}.")
    if _has(report, "paper_test_accuracy"):
        notes.append(
            "paper: the figure in the tables of Wang, Oh and Rhee (ICLR 2022), which "
            "come without errors. Their settings are only partly known; ours are "
            "reconstructed."
        )
    failed = runs.dropna(subset="failed")
    pairs = zip(failed["train_accuracy"], failed["failed"], strict=True)
    if named := named_runs(failed, [f"{share:.1%}, {why}" for share, why in pairs]):
        notes.append(
            f"{FAILED.strip()} Did not learn the training images, though the loss is "
            f"finite: {named}. Such a run may look flat. They are in the means."
        )
    if named := named_runs(runs, runs["left_out"]):
        notes.append(f"{LEFT_OUT.strip()} Not in all means: {named}.")
    for measure in report.measures:
        usual = usual_arguments(runs, measure).groupby(runs["name"], sort=False).first()
        if usual.nunique() > 1:
            found = "; ".join(
                f"{name} with {how}" for name, how in usual.items() if how
            )
            notes.append(
                f"Do not compare the {measure.replace('_', ' ')} of the methods. It was "
                f"not measured in the same way: {found}."
            )
    fewer = summary[f"{DIFFERENCE}_seeds"] < summary["test_accuracy_seeds"]
    if fewer.any():
        notes.append(
            "The difference has fewer seeds than the mean, as SB lacks some: "
            f"{', '.join(summary.index[fewer.fillna(False)])}."
        )
    return notes
