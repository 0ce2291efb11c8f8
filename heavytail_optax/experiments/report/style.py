"""How all pictures look, and how they are saved."""

import math
import pathlib
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ..files import replacing
from .tables import format_number

STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "figure.titlesize": 12,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
}

_CLOSE, _TEN_TIMES, _FAR = 3.0, 10.0, 1e4  # ratios of the ends of a logarithmic axis
_FEW = 12
_DIGITS = 6  # of a tick, which is at a number of few digits

styled = mpl.rc_context(STYLE)
"""Decorates a function that draws, as matplotlib reads its style when axes are made."""


def panel_grid(
    number: int, columns: int, panel: tuple[float, float], legend_height: float
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels of a size in inches, and room for a legend below."""
    rows = -(-number // columns)
    width, height = panel
    size = max(width * columns, 7.0), height * rows + legend_height
    figure = Figure(figsize=size)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[number:]:
        unused.remove()
    return figure, axes[:number]


def log_ticks(axis: Axis) -> None:
    """A logarithmic axis, its limits final, with a few ticks labelled by plain numbers."""
    low, high = sorted(axis.get_view_interval())
    ratio = high / low if low > 0.0 else math.inf
    # At least three ticks also where the limits are close, at numbers of few digits.
    locator = MaxNLocator(6, steps=[1, 2, 5, 10])
    if ratio > _CLOSE:
        subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
        if ratio > _TEN_TIMES:
            subs = (1.0,) if ratio > _FAR else (1.0, 2.0, 5.0)
        locator = LogLocator(subs=subs, numticks=10)
    axis.set_major_locator(locator)
    axis.set_major_formatter(lambda x, _: format_number(x, _DIGITS))
    axis.set_minor_locator(NullLocator())


def few_points(number: int) -> dict[str, str | int | bool]:
    """The style of a line: with dots where it has few points, and may have one alone."""
    dots = {"marker": "o", "markersize": 3, "clip_on": False}
    return dots if 0 < number <= _FEW else {}


def legend_below(figure: Figure, handles: Sequence[Artist], columns: int) -> None:
    """One legend for all panels."""
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def save_figure(figure: Figure | None, path: pathlib.Path) -> bool:
    """Writes a PNG, whole or not at all; without a figure, an earlier one goes."""
    if figure is None:
        path.unlink(missing_ok=True)
        return False
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
    return True
