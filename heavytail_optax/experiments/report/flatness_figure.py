"""The figure of `heavytail flatness`: spectra, slices and escapes, a colour a method."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from heavytail_optax.experiments.methods import METHOD_COLOURS
from heavytail_optax.experiments.report.flatness_runs import MeasuredRun
from heavytail_optax.experiments.storage.durable_files import replacing

Columns = Mapping[str, Sequence[float]]

_DPI = 150
_PANEL = (4.6, 3.6)  # inches
# What is further below the top of a density is only the bell curves it is made of.
_LOWEST_DENSITY = 1e-5
# Room for the highest loss on a line, as a multiple of the median of all ends.
_TIMES_MEDIAN = 3.0


class _Panel(NamedTuple):
    """A curve of measurements.json, and how to draw it."""

    curve: str
    title: str
    draw: Callable[[Axes, Sequence[tuple[str, Columns]]], None]


def plot_flatness(path: pathlib.Path, runs: Sequence[MeasuredRun]) -> bool:
    """Writes a PNG with a panel for each curve that any run has."""
    figure = draw_flatness(runs)
    if figure is None:
        path.unlink(missing_ok=True)
        return False
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
    return True


def first_seeds(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """The first run of each method, which are few enough to be told apart."""
    first: dict[str, MeasuredRun] = {}
    for run in runs:
        first.setdefault(run.result.method, run)
    return list(first.values())


def draw_flatness(runs: Sequence[MeasuredRun]) -> Figure | None:
    """The figure that `plot_flatness` writes, None if there is nothing to draw."""
    panels = [
        (panel, curves)
        for panel in _PANELS
        if (
            curves := [
                (METHOD_COLOURS[run.result.method], curve)
                for run in runs
                if (curve := run.curve(panel.curve)) is not None
            ]
        )
    ]
    if not panels:
        return None
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    width = max(_PANEL[0] * columns, 7.0)
    legend_columns = 3 if columns == 3 else 2
    legend_lines = -(-len(runs) // legend_columns)
    height = _PANEL[1] * rows + 0.25 * legend_lines + 0.3
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (panel, curves) in zip(grid, panels, strict=False):
        panel.draw(axes, curves)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=panel.draw is _draw_escape))
        axes.set_title(panel.title, loc="left", fontsize=10)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(grid)[len(panels) :]:
        axes.remove()
    handles = [
        Line2D([], [], color=METHOD_COLOURS[run.result.method], label=_label(run))
        for run in runs
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=legend_columns,
        frameon=False,
        fontsize=9,
    )
    return figure


def _label(run: MeasuredRun) -> str:
    accuracy = run.result.train_accuracy
    learnt = "" if accuracy is None else f": training accuracy {100 * accuracy:.1f}%"
    return f"{run.label}{learnt}"


def _draw_density(axes: Axes, curves: Sequence[tuple[str, Columns]]) -> None:
    highest = max(max(columns["density"]) for _, columns in curves)
    floor = _LOWEST_DENSITY * highest
    for colour, columns in curves:
        values = np.asarray(columns["density"])
        errors = np.nan_to_num(np.asarray(columns["standard_error"]))
        low, high = values - errors, values + errors
        axes.semilogy(
            columns["eigenvalue"], np.maximum(values, floor), color=colour, linewidth=1
        )
        axes.fill_between(
            columns["eigenvalue"],
            np.maximum(low, floor),
            np.maximum(high, floor),
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
    axes.set_ylim(bottom=floor)
    axes.set_xlabel("eigenvalue")


def _draw_line(axes: Axes, curves: Sequence[tuple[str, Columns]]) -> None:
    ends = []
    for colour, columns in curves:
        losses = np.asarray(columns["loss"])
        axes.plot(columns["coefficient"], losses, color=colour, linewidth=1.5)
        ends.append(np.nanmax(losses, initial=0.0))
    # A loss that leaves the panel lets the others be read.
    top = _TIMES_MEDIAN * float(np.median(ends))
    if 0.0 < top < max(ends):
        axes.set_ylim(top=top)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("distance along the direction")


def _draw_relative_line(axes: Axes, curves: Sequence[tuple[str, Columns]]) -> None:
    _draw_line(axes, curves)
    axes.set_xlabel("distance in norms of the filters")


def _draw_escape(axes: Axes, curves: Sequence[tuple[str, Columns]]) -> None:
    for number, (colour, columns) in enumerate(curves):
        jumps = np.asarray(columns["jumps"])
        middle = np.asarray(columns["probability"])
        bars = [
            np.maximum(middle - np.asarray(columns["lower"]), 0.0),
            np.maximum(np.asarray(columns["upper"]) - middle, 0.0),
        ]
        # Beside each other, as many have the same value.
        shift = 0.5 * ((number + 0.5) / len(curves) - 0.5)
        axes.errorbar(
            jumps + shift,
            middle,
            yerr=bars,
            color=colour,
            marker="o",
            markersize=4,
            linewidth=1,
            linestyle=":",
            capsize=2,
        )
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlabel("jumps")


_PANELS = (
    _Panel("density", "Density of the Hessian's eigenvalues", _draw_density),
    _Panel("line_eigenvector", "Loss along the top eigenvector", _draw_line),
    _Panel("line_random", "Loss along a random direction", _draw_relative_line),
    _Panel("escape_noise", "P(escape), along gradient noise", _draw_escape),
    _Panel("escape_eigenvector", "P(escape), along top eigenvector", _draw_escape),
    _Panel("escape_isotropic", "P(escape), along random directions", _draw_escape),
)
