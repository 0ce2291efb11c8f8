"""The picture of the first page: narrow minima are left in one jump, wide ones in two.

    python benchmarks/idea_figure.py

reads `benchmarks/results/four_regimes.csv` and writes `idea.png`, and `idea_dark.png` for
dark themes, under `docs/images`. Small and tall, to be read on a telephone.
"""

import csv
import pathlib
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import heavytail_optax as hto

ROOT = pathlib.Path(__file__).parents[1]
TABLE = ROOT / "benchmarks" / "results" / "four_regimes.csv"
IMAGES = ROOT / "docs" / "images"


class Palette(NamedTuple):
    """Colours of one theme; narrow and wide are told apart by the colour-blind too."""

    paper: str
    ink: str
    faint: str
    narrow: str
    wide: str
    on_bar: str


# `paper` is the background of the pages in the theme's two modes.
LIGHT = Palette("#ffffff", "#1a1a1a", "#8a8a8a", "#D55E00", "#0072B2", "#ffffff")
DARK = Palette("#121212", "#e8e8e8", "#8f98a3", "#F58A3C", "#5CB3E8", "#10141a")

# Names of the rows of the table, from light to heavy, with those of the picture.
REGIMES = {
    "light tails": "light tails",
    "light tails, truncated": "light tails + truncation",
    "heavy tails": "heavy tails",
    "heavy tails, truncated": "heavy tails + truncation",
}


def draw_landscape(axes: Axes, palette: Palette, max_norm: float) -> None:
    """f with its four fields, and the jumps that leave one of each kind."""
    landscape = hto.dynamics.four_minima()
    widths = np.asarray(landscape.widths)
    low, high = -1.6, 1.6
    ends = np.clip(np.asarray(landscape.ends), low, high)
    jumps = np.ceil(widths / max_norm).astype(int)
    x = np.linspace(low, high, 2001)
    values = np.asarray(landscape.values_at(x))
    # Depth is not the point, and the deepest minimum would flatten all others.
    heights = np.cbrt(values - values.min())
    top = 1.22 * heights.max()
    for field in range(landscape.num_fields):
        is_narrow = jumps[field] == 1
        colour = palette.narrow if is_narrow else palette.wide
        inside = (x >= ends[field]) & (x <= ends[field + 1])
        axes.axvspan(ends[field], ends[field + 1], color=colour, alpha=0.16, lw=0)
        axes.plot(x[inside], heights[inside], color=colour, linewidth=2.6)
        axes.text(
            0.5 * (ends[field] + ends[field + 1]),
            top * 0.97,
            "narrow" if is_narrow else "wide",
            color=colour,
            fontsize=11,
            fontweight="bold",
            ha="center",
            va="top",
        )
    for field, label in ((1, "two jumps of length b"), (2, "one jump")):
        minimum = landscape.minima[field]
        level = np.interp(minimum, x, heights) - 0.09 * top
        for jump in range(jumps[field]):
            start = minimum + jump * max_norm
            axes.annotate(
                "",
                xy=(start + max_norm, level),
                xytext=(start, level),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": palette.ink,
                    "linewidth": 1.8,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )
        axes.text(
            minimum + 0.5 * jumps[field] * max_norm,
            level - 0.03 * top,
            label,
            color=palette.ink,
            fontsize=10.5,
            ha="center",
            va="top",
        )
    axes.set(xlim=(low - 0.12, high), ylim=(-0.06 * top, top), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_shares(axes: Axes, palette: Palette, rows: dict[str, float]) -> None:
    """A bar of 100 % for each regime."""
    for place, (name, label) in enumerate(REGIMES.items()):
        share = 100.0 * rows[name]
        axes.barh(place, share, color=palette.narrow, height=0.46)
        axes.barh(place, 100.0 - share, left=share, color=palette.wide, height=0.46)
        is_ours = name == "heavy tails, truncated"
        axes.text(
            0.0,
            place - 0.33,
            label,
            color=palette.ink,
            fontsize=11,
            fontweight="bold" if is_ours else "normal",
            va="bottom",
        )
        axes.text(
            100.0,
            place - 0.33,
            f"{share:.0f} % in narrow minima",
            color=palette.narrow,
            fontsize=10.5,
            fontweight="bold",
            ha="right",
            va="bottom",
        )
    axes.set(xlim=(0, 100), ylim=(len(REGIMES) - 0.7, -0.75), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw(palette: Palette, table: list[dict[str, str]]) -> Figure:
    figure = Figure(figsize=(4.6, 5.4), dpi=200, layout="constrained")
    figure.set_facecolor(palette.paper)
    upper, lower = figure.subplots(2, 1, height_ratios=(1.0, 1.0))
    for axes in (upper, lower):
        axes.set_facecolor(palette.paper)
    draw_landscape(upper, palette, float(table[0]["max_norm"]))
    upper.set_title("How to leave a minimum", color=palette.ink, fontsize=12)
    shares = {row["regime"]: float(row["narrow_share"]) for row in table}
    draw_shares(lower, palette, shares)
    lower.set_title("Share of time, from an even start", color=palette.ink, fontsize=12)
    return figure


def main() -> None:
    with open(TABLE, newline="") as file:
        table = list(csv.DictReader(file))
    for name, palette in (("idea", LIGHT), ("idea_dark", DARK)):
        path = IMAGES / f"{name}.png"
        draw(palette, table).savefig(path, facecolor=palette.paper)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
