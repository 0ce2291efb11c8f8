"""The columns of a report as text, for the terminal and for Markdown alike."""

from collections.abc import Callable
from typing import NamedTuple

from heavytail_optax.experiments.report.notes import FAILED, LEFT_OUT, has_left_out
from heavytail_optax.experiments.report.number_format import (
    format_number,
    format_percent,
    format_with_error,
)
from heavytail_optax.experiments.report.rows import MethodRow, Report

NOTHING = "-"
PAPER = ("paper",)

_NO_BREAK = "\N{NO-BREAK SPACE}"


class Column(NamedTuple):
    """A column of text."""

    heading: tuple[str, ...]  # lines
    texts: tuple[str, ...]  # one a row


def method_column(report: Report) -> Column:
    """The names of the methods, marked where a run did not learn."""
    return Column(("Method",), tuple(map(_label, report.rows)))


def accuracy_columns(report: Report, *, with_interval: bool) -> list[Column]:
    """Seeds, accuracies and cost, with the paper's figures where there are some."""

    def column(heading: tuple[str, ...], text: Callable[[MethodRow], str]) -> Column:
        return Column(heading, tuple(map(text, report.rows)))

    columns = [
        column(("Seeds",), _seeds),
        accuracy_column(report),
    ]
    if report.has_paper_figures:
        columns.append(column(PAPER, _paper_accuracy))
    if report.has_reference:
        columns.append(column(("Test less", "that of SB"), _difference))
        if with_interval:
            columns.append(column(("95%", "interval"), _interval))
    columns += [
        column(("Train", "%"), _train_accuracy),
        column(("Images", "a step"), _cost),
    ]
    return columns


def accuracy_column(report: Report) -> Column:
    """The mean test accuracy in percent with its standard error."""
    return Column(("Test", "%"), tuple(map(_test_accuracy, report.rows)))


def sharpness_columns(report: Report, measure: str) -> list[Column]:
    """One measure, with the paper's figures where there are some."""
    columns = [
        Column(
            measure_heading(measure),
            tuple(_sharpness(row, measure) for row in report.rows),
        )
    ]
    papers = [row.paper.sharpness if row.paper else {} for row in report.rows]
    if any(measure in figures for figures in papers):
        texts = [
            format_number(figures[measure], digits=4) if measure in figures else NOTHING
            for figures in papers
        ]
        columns.append(Column(PAPER, tuple(texts)))
    return columns


def measure_heading(measure: str) -> tuple[str, ...]:
    """A measure's name on two lines: "Expected", "sharpness".

    Example:
      >>> measure_heading("pac_bayes_sharpness")
      ('PAC-Bayes', 'sharpness')
    """
    words = measure.replace("pac_bayes", "PAC-Bayes").split("_")
    first = words[0][0].upper() + words[0][1:]
    return (first, " ".join(words[1:])) if len(words) > 1 else (first,)


def _label(row: MethodRow) -> str:
    return f"{row.label}{_NO_BREAK}{FAILED}" if row.failed else row.label


def _seeds(row: MethodRow) -> str:
    mark = f" {LEFT_OUT}" if has_left_out(row) else ""
    return f"{len(row.finished)}/{len(row.cells)}{mark}"


def _test_accuracy(row: MethodRow) -> str:
    mean, error, *_ = row.test_accuracy
    return NOTHING if mean is None else format_percent(mean, error)


def _train_accuracy(row: MethodRow) -> str:
    mean = row.train_accuracy.mean
    return NOTHING if mean is None else format_percent(mean)


def _paper_accuracy(row: MethodRow) -> str:
    return NOTHING if row.paper is None else f"{row.paper.test_accuracy:.2f}"


def _difference(row: MethodRow) -> str:
    found = row.difference
    if found is None:
        return NOTHING
    return format_percent(found.mean, found.standard_error, sign="+")


def _interval(row: MethodRow) -> str:
    if row.difference is None or row.difference.interval is None:
        return NOTHING
    low, high = row.difference.interval
    return f"{format_percent(low, sign='+')} to {format_percent(high, sign='+')}"


def _cost(row: MethodRow) -> str:
    cost = row.examples_per_step
    return NOTHING if cost is None else f"{cost:,.0f}"


def _sharpness(row: MethodRow, measure: str) -> str:
    mean, error, *_ = row.sharpness[measure]
    return NOTHING if mean is None else format_with_error(mean, error)
