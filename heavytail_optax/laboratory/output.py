"""Tables for the terminal and pictures, in the one style of the laboratory."""

import contextlib
import itertools
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from heavytail_optax.experiments.report import style

ORANGE, BLUE, YELLOW, GREEN = "#D55E00", "#0072B2", "#E69F00", "#009E73"


def print_table(
    console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """The first column on the left, the others on the right."""
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="right" if position else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)


@contextlib.contextmanager
def warnings_printed(console: Console) -> Iterator[None]:
    """Prints warnings as sentences, without the line of code that they come from."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(each.message) for each in caught):
        console.print(text, highlight=False)


def new_figure(width: float, height: float, title: str) -> Figure:
    """A figure with a title, in inches."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure


def finish(axes: Axes, title: str = "", size: int = 10, grid: str = "") -> None:
    """A title on the left, a light grid along some axes, and no frame."""
    axes.set_title(title, loc="left", fontsize=size)
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(axis=grid, alpha=0.25, linewidth=0.6)


def save_figure(
    console: Console, directory: pathlib.Path, name: str, figure: Figure
) -> None:
    """Writes a figure as a PNG beside those of earlier commands, and says where."""
    path = directory / name
    others = (
        path.with_stem(f"{path.stem}-{number:03}") for number in itertools.count(2)
    )
    while path.exists():
        path = next(others)
    style.save_figure(figure, path)
    console.print(f"Written: {path}", highlight=False, soft_wrap=True)
