"""The picture of a report: test accuracy against sharpness."""

import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from heavytail_optax.experiments.methods import METHOD_COLOURS, MethodName
from heavytail_optax.experiments.report.columns import measure_heading
from heavytail_optax.experiments.report.number_format import (
    format_number,
    format_percent,
)
from heavytail_optax.experiments.report.points import Kind, Point, points_of
from heavytail_optax.experiments.report.rows import MethodRow, Report
from heavytail_optax.experiments.storage.durable_files import replacing

_WIDTH = 8.0  # inches
_DPI = 150
_MOST_IN_A_COLUMN = 3
_FAR_BELOW = 10.0  # percentage points
_LABEL_WIDTH = 0.12  # share of the panel's width

_MARKERS: Mapping[Kind, dict[str, Any]] = {
    "run": {"marker": "o", "markersize": 4, "alpha": 0.6, "zorder": 2},
    "failed run": {"marker": "x", "markersize": 6, "markeredgewidth": 2, "zorder": 2},
    "paper": {"marker": "s", "markersize": 9, "fillstyle": "none", "zorder": 5},
    "mean": {"marker": "o", "markersize": 8, "markeredgecolor": "white", "zorder": 4},
}
_KEY: Mapping[str, str] = {
    "run": "dots: runs",
    "failed run": "crosses: did not learn",
    "mean": "large dots: mean ± standard error",
    "paper": "squares: paper",
    "below": "triangles: further down",
}
_BELOW: dict[str, Any] = {"marker": "v", "markersize": 7, "zorder": 2}


def plot_report(path: pathlib.Path, report: Report) -> bool:
    """Writes a PNG with one panel a measure: a dot a run, a large one a method's mean.

    Hollow squares are the paper's figures. What is far below the others is put on the
    lower edge, with its value, so that the others can be told apart.
    """
    figure = draw_report(report)
    if figure is None:
        path.unlink(missing_ok=True)
        return False
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
    return True


def draw_report(report: Report) -> Figure | None:
    """The figure that `plot_report` writes, None if there is nothing to show."""
    points = {
        measure: {row.method: points_of(row, measure) for row in report.rows}
        for measure in report.measures
    }
    drawn = {
        measure: by_method
        for measure, by_method in points.items()
        if any(point.kind != "paper" for own in by_method.values() for point in own)
    }
    if not drawn:
        return None
    legend_lines = (len(report.rows) + 1) // 2
    columns = 1 if len(drawn) <= _MOST_IN_A_COLUMN else 2
    rows = -(-len(drawn) // columns)
    height = 0.7 + 3.9 * rows + 0.25 * legend_lines
    size = (_WIDTH * columns, height)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in panels[len(drawn) :]:
        unused.remove()
    occurring: set[str] = set()
    for axes, (measure, by_method) in zip(panels, drawn.items(), strict=False):
        occurring |= _draw_panel(axes, by_method)
        axes.set_xlabel(f"{' '.join(measure_heading(measure))} (flatter to the left)")
    key = "; ".join(text for name, text in _KEY.items() if name in occurring)
    panels[0].set_title(key, loc="left", fontsize=9.5, color="0.3")
    figure.suptitle(f"Test accuracy against sharpness: {report.preset}", fontsize=12)
    figure.legend(
        handles=[_legend_entry(row) for row in report.rows],
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=10,
    )
    return figure


def _draw_panel(
    axes: Axes, by_method: Mapping[MethodName, Sequence[Point]]
) -> set[str]:
    """Draws all points; returns which entries of the key occur."""
    pairs = [(name, point) for name, points in by_method.items() for point in points]
    lowest, floor = _lowest_shown([point.accuracy for _, point in pairs])
    below = []
    _scale_sharpness(axes, [point for _, point in pairs])
    for method, point in pairs:
        colour = METHOD_COLOURS[method]
        if point.accuracy < lowest:
            axes.plot(point.sharpness, floor, color=colour, linestyle="none", **_BELOW)
            below.append(point)
        else:
            _draw_point(axes, point, colour)
    axes.margins(y=0.08)
    _label_below(axes, below, floor)
    axes.set_ylabel("test accuracy (%)")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    shown = {point.kind for _, point in pairs if point.accuracy >= lowest}
    return shown | {"below"} if below else shown


def _draw_point(axes: Axes, point: Point, colour: str) -> None:
    axes.errorbar(
        point.sharpness,
        point.accuracy,
        xerr=[[_left_bar(point)], [point.sharpness_error]],
        yerr=point.accuracy_error,
        color=colour,
        linestyle="none",
        elinewidth=1.5,
        **_MARKERS[point.kind],
    )


def _lowest_shown(accuracies: Sequence[float]) -> tuple[float, float]:
    """The lowest accuracy at its place, and where to put what is far below the median."""
    median = statistics.median(accuracies)
    shown = [each for each in accuracies if each >= median - _FAR_BELOW]
    return min(shown), min(shown) - 0.15 * max(max(shown) - min(shown), 1.0)


def _label_below(axes: Axes, points: Sequence[Point], floor: float) -> None:
    """Writes the accuracies over the triangles, one range over those close together."""
    low, high = axes.get_xlim()
    width = (high / low) ** _LABEL_WIDTH
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: point.sharpness):
        if groups and point.sharpness < groups[-1][-1].sharpness * width:
            groups[-1].append(point)
        else:
            groups.append([point])
    for group in groups:
        axes.annotate(
            _accuracy_range(group),
            (math.sqrt(group[0].sharpness * group[-1].sharpness), floor),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color="0.25",
        )


def _accuracy_range(points: Sequence[Point]) -> str:
    if len(points) == 1:
        kind = "" if points[0].kind.endswith("run") else f"{points[0].kind} "
        return f"{kind}{points[0].accuracy:.1f}"
    accuracies = [point.accuracy for point in points]
    return f"{min(accuracies):.1f} to {max(accuracies):.1f}"


def _left_bar(point: Point) -> float:
    """Length of the error bar, which on a logarithmic axis must not reach zero."""
    return min(point.sharpness_error, 0.9 * point.sharpness)


def _scale_sharpness(axes: Axes, points: Sequence[Point]) -> None:
    """A logarithmic axis with a few labelled ticks, however near or far the points."""
    low = min(point.sharpness - _left_bar(point) for point in points)
    high = max(point.sharpness + point.sharpness_error for point in points)
    widening = max((high / low) ** 0.06, 2 / math.sqrt(high / low))
    low, high = low / widening, high * widening
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    digits = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0) if high / low < 10 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(
        LogLocator(subs=digits if high / low < 1e4 else (1.0,), numticks=12)
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: format_number(x, 2)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend_entry(row: MethodRow) -> Line2D:
    mean, error, count, _ = row.test_accuracy
    label = f"{row.label}: no run finished"
    if mean is not None:
        label = f"{row.label}: {format_percent(mean, error)}%"
        if count < len(row.cells):
            label += f" ({count} of {len(row.cells)} runs)"
    return Line2D(
        [],
        [],
        color=METHOD_COLOURS[row.method],
        linestyle="none",
        label=label,
        **_MARKERS["mean"],
    )
