"""Columns of text as tables for the terminal, as many as its width asks for."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from heavytail_optax.experiments.report.columns import PAPER, Column


def text_tables(
    lead: Sequence[Column],
    repeated: Sequence[Column],
    blocks: Sequence[Sequence[Column]],
    width: int,
) -> list[Table]:
    """The columns side by side; what does not fit is in further tables below."""
    tables = [list(lead)]
    for block in blocks:
        if _width([*tables[-1], *block], gap=1) <= width:
            tables[-1] += block
        else:
            tables.append([*repeated, *block])
    return [_table(columns, width) for columns in tables]


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
