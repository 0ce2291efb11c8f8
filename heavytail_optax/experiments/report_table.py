"""The table of a report in the terminal."""

import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from heavytail_optax.experiments.cell_result import CellResult
from heavytail_optax.experiments.report_columns import (
    PAPER,
    Column,
    accuracy_column,
    accuracy_columns,
    method_column,
    sharpness_columns,
)
from heavytail_optax.experiments.report_notes import report_notes
from heavytail_optax.experiments.report_rows import build_report

_NAME_WIDTH = 23


def report_table(preset: str, cells: Sequence[CellResult], width: int = 100) -> Group:
    """One row a method: accuracy, cost and sharpness, notes below.

    What does not fit beside it is in further tables, where each measure of sharpness
    has the accuracy beside it again: a run that failed can look flat.

    Args:
      preset: name of the preset, which the paper's figures are looked up by.
      cells: of all methods and seeds, in any order.
      width: columns of the terminal; 80 or more for the numbers to be whole.

    Returns:
      Something for `rich.console.Console.print`.
    """
    report = build_report(preset, cells)
    name = _wrapped(method_column(report))
    accuracy = accuracy_column(report)
    tables = [[name, *accuracy_columns(report, with_interval=False)]]
    for measure in report.measures:
        block = sharpness_columns(report, measure)
        if _width([*tables[-1], *block], gap=1) <= width:
            tables[-1] += block
        else:
            tables.append([name, accuracy, *block])
    notes = [Text(note, style="dim") for note in report_notes(report)]
    return Group(*(_table(columns, width) for columns in tables), *notes)


def _table(columns: Sequence[Column], width: int) -> Table:
    gap = 2 if _width(columns, gap=2) <= width else 1
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1, 0, 0),
    )
    for position, column in enumerate(columns):
        table.add_column(
            "\n".join(column.heading),
            justify="right" if position else "left",
            style="dim" if column.heading == PAPER else None,
            no_wrap=True,
        )
    for texts in zip(*(column.texts for column in columns), strict=True):
        table.add_row(*texts)
    table.add_row()  # between the table and what follows
    return table


def _wrapped(names: Column) -> Column:
    texts = [
        textwrap.fill(text, _NAME_WIDTH, subsequent_indent="  ") for text in names.texts
    ]
    return names._replace(texts=tuple(texts))


def _width(columns: Sequence[Column], gap: int) -> int:
    lines = [
        max(
            len(line)
            for text in (*column.heading, *column.texts)
            for line in text.splitlines()
        )
        for column in columns
    ]
    return sum(lines) + gap * (len(lines) - 1)
