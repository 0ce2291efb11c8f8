"""Columns of text as tables, for the terminal and for Markdown."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pandas as pd
from rich import box
from rich.table import Table

MISSING = "-"
PAPER = "paper"


class Column(NamedTuple):
    """A column of text, whose heading may have several lines."""

    heading: str
    texts: list[str]  # one a row


def text_column(
    heading: str, table: pd.DataFrame, text: Callable[..., str], *columns: str
) -> Column:
    """Some columns of a table as one of text; where the first has no value, "-"."""
    rows = table[list(columns)].itertuples(index=False)
    return Column(heading, [MISSING if pd.isna(row[0]) else text(*row) for row in rows])


def mean_column(
    heading: str, table: pd.DataFrame, text: Callable[..., str], quantity: str
) -> Column:
    """A quantity with its standard error."""
    return text_column(heading, table, text, quantity, f"{quantity}_standard_error")


def measure_heading(measure: str) -> str:
    """A measure's name on two lines: "PAC-Bayes", "sharpness"."""
    first, _, rest = measure.replace("pac_bayes", "PAC-Bayes").partition("_")
    return f"{first[0].upper()}{first[1:]}\n{rest.replace('_', ' ')}".strip()


def markdown_table(columns: Sequence[Column]) -> str:
    """A table whose first column is to the left, all others to the right."""
    rows = [
        [column.heading.replace("\n", " ") for column in columns],
        [":---", *["---:"] * (len(columns) - 1)],
        *zip(*(column.texts for column in columns), strict=True),
    ]
    lines = [" | ".join(text.replace("|", "\\|") for text in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def text_tables(
    lead: Sequence[Column],
    repeated: Sequence[Column],
    blocks: Iterable[Sequence[Column]],
    width: int,
) -> list[Table]:
    """The columns side by side; blocks that do not fit are in further tables below."""
    tables = [list(lead)]
    for block in blocks:
        if _width([*tables[-1], *block], gap=1) <= width:
            tables[-1] += block
        else:
            tables.append([*repeated, *block])
    return [_table(columns, width) for columns in tables]


def _table(columns: Sequence[Column], width: int) -> Table:
    gap = 2 if _width(columns, gap=2) <= width else 1
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.padding = (0, gap - 1, 0, 0)
    for position, column in enumerate(columns):
        table.add_column(
            column.heading,
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
        max(len(line) for text in column for line in text.splitlines())
        for column in ([each.heading, *each.texts] for each in columns)
    ]
    return sum(lines) + gap * (len(lines) - 1)
