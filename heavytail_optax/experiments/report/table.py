"""The table of a report in the terminal."""

import textwrap
from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from heavytail_optax.experiments.report.columns import (
    Column,
    accuracy_column,
    accuracy_columns,
    method_column,
    sharpness_columns,
)
from heavytail_optax.experiments.report.notes import report_notes
from heavytail_optax.experiments.report.rows import build_report
from heavytail_optax.experiments.report.text_table import text_tables
from heavytail_optax.experiments.runs.result import RunResult

_NAME_WIDTH = 23


def report_table(preset: str, cells: Sequence[RunResult], width: int = 100) -> Group:
    """One row a method: accuracy, cost and sharpness, notes below.

    What does not fit beside it is in further tables, where each measure of sharpness
    has the accuracy beside it again: a run that failed can look flat.
    """
    report = build_report(preset, cells)
    name = _wrapped(method_column(report))
    tables = text_tables(
        [name, *accuracy_columns(report, with_interval=False)],
        [name, accuracy_column(report)],
        [sharpness_columns(report, measure) for measure in report.measures],
        width,
    )
    notes = [Text(note, style="dim") for note in report_notes(report)]
    return Group(*tables, *notes)


def _wrapped(names: Column) -> Column:
    texts = [
        textwrap.fill(text, _NAME_WIDTH, subsequent_indent="  ") for text in names.texts
    ]
    return names._replace(texts=tuple(texts))
