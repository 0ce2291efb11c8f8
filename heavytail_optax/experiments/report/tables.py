"""Numbers with as many digits as they deserve, and columns of text as tables."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import pandas as pd
from rich import box
from rich.table import Table

_Share = TypeVar("_Share", float, pd.Series)


def format_number(value: float, digits: int = 3) -> str:
    """So many significant digits, without zeros at the end: 0.0046, 70, 1.31e4."""
    if not math.isfinite(value):
        return f"{value}"
    value += 0.0  # zero has no sign
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    exponent = int(power)
    if -5 < exponent < 3:
        mantissa = f"{value:.{max(digits - 1 - exponent, 0)}f}"
    text = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return text if -5 < exponent < 3 else f"{text}e{exponent}"


def format_with_error(value: float, error: float | None = None) -> str:
    """A number with its error's first digit, or two if that is a 1: 0.0053 ± 0.0004."""
    if error is None or not (math.isfinite(value) and math.isfinite(error)):
        return format_number(value)
    exponent = int(f"{max(abs(value), error):.2e}".partition("e")[2])
    scale = 0 if -5 < exponent < 3 else exponent
    value, error = value / 10.0**scale, error / 10.0**scale
    mantissa, _, place = f"{error:.1e}".partition("e")
    decimals = 2 if error == 0 else (mantissa[0] == "1") - int(place)
    # The value never has more than four digits.
    decimals = max(min(decimals, 3 - exponent + scale), 0)
    text = f"{value:.{decimals}f} ± {error:.{decimals}f}"
    return f"({text})e{scale}" if scale else text


def format_percent(share: float, error: float | None = None, sign: str = "") -> str:
    """A share in percent, to one decimal, or two where the error is that small."""
    error = math.nan if error is None else error
    decimals = 2 if 0 < error < 0.0005 else 1
    # What is rounded to zero has no minus.
    text = f"{round(100 * share, decimals) + 0.0:{sign}.{decimals}f}"
    return text if math.isnan(error) else f"{text} ± {100 * error:.{decimals}f}"


format_difference = functools.partial(format_percent, sign="+")
"""The same with its sign."""


def accuracy_error(accuracy: _Share, images: float | pd.Series) -> _Share:
    """Binomial standard error of an accuracy on independent images."""
    return (accuracy * (1 - accuracy) / images) ** 0.5


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
