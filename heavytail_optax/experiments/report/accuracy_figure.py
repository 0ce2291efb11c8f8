"""The picture of a report: test accuracy against sharpness, a panel a measure."""

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..methods import METHODS, MethodName
from .style import legend_below, log_ticks, panel_grid, styled
from .summary import Report, counted, label, means
from .tables import format_percent, measure_heading

_PANEL = (8.0, 3.9)  # inches
_MOST_IN_A_COLUMN = 3
_TITLE_WIDTH = 100  # characters
_FAR_BELOW = 10.0  # percentage points
_MARKERS: dict[str, dict[str, Any]] = {
    "run": {"marker": "o", "markersize": 4, "alpha": 0.6, "zorder": 2},
    "failed": {"marker": "x", "markersize": 6, "markeredgewidth": 2, "zorder": 2},
    "mean": {"marker": "o", "markersize": 8, "markeredgecolor": "white", "zorder": 4},
    "paper": {"marker": "s", "markersize": 9, "fillstyle": "none", "zorder": 5},
    "below": {"marker": "v", "markersize": 7, "zorder": 2},
}
_KEY = {
    "run": "dots: runs",
    "failed": "crosses: did not learn",
    "mean": "large dots: mean ± standard error",
    "paper": "squares: paper",
    "below": "triangles: below the axis",
}


def points_of(report: Report, measure: str) -> pd.DataFrame:
    """Kind, name, sharpness, accuracy in percent, and their errors, a row a point."""
    # Both means of a method are over the same runs: those that have both values.
    quantities = ["test_accuracy", measure]
    has_both = counted(report.runs, quantities).notna().all(axis=1)
    runs = report.runs[has_both]
    mean = means(runs, quantities)
    runs = runs.set_index("name")
    runs = runs[runs.index.map(mean[f"{measure}_seeds"]) > 1]  # else it is its mean
    failed = runs["failed"].notna()
    paper = report.summary.filter(like="paper_")
    parts = {
        "run": runs[~failed],
        "failed": runs[failed],
        "mean": mean,
        "paper": paper.set_axis(paper.columns.str.removeprefix("paper_"), axis=1),
    }
    names = {
        measure: "sharpness",
        "test_accuracy": "accuracy",
        f"{measure}_standard_error": "sharpness_error",
        "test_accuracy_standard_error": "accuracy_error",
    }
    points = pd.concat(
        [
            table.reindex(columns=[*names]).rename(columns=names).assign(kind=kind)
            for kind, table in parts.items()
        ]
    ).reset_index(names="name")
    is_mean = points["kind"] == "mean"
    for error in ("sharpness_error", "accuracy_error"):
        points[error] = points[error].where(is_mean).fillna(0.0)
    points[["accuracy", "accuracy_error"]] *= 100
    return points[(points["sharpness"] > 0) & points["accuracy"].notna()]


@styled
def draw_report(report: Report) -> Figure | None:
    """A dot a run, a large one a method's mean; None if there is nothing to show."""
    summary = report.summary
    drawn = {measure: points_of(report, measure) for measure in report.measures}
    drawn = {k: v for k, v in drawn.items() if (v["kind"] != "paper").any()}
    if not drawn:
        return None
    columns = 1 if len(drawn) <= _MOST_IN_A_COLUMN else 2
    legend_height = 0.7 + 0.25 * math.ceil(len(summary) / 2)
    figure, panels = panel_grid(len(drawn), columns, _PANEL, legend_height)
    kinds: set[str] = set()
    for axes, (measure, found) in zip(panels, drawn.items(), strict=True):
        kinds |= _draw_panel(axes, found, dict(summary["method"]))
        name = measure_heading(measure).replace("\n", " ")
        axes.set_xlabel(f"{name} (flatter to the left)")
    key = "; ".join(text for kind, text in _KEY.items() if kind in kinds)
    if "run" not in kinds and (summary["test_accuracy_seeds"] <= 1).all():
        key = key.replace(_KEY["mean"], "large dots: one run each")
    shown = {name for found in drawn.values() for name in found["name"]}
    is_shown = summary.index.isin(shown)
    if without := list(map(label, summary.index[~is_shown])):
        names = f"without a measurement, so not here: {', '.join(without)}"
        key = "\n".join([key, *textwrap.wrap(names, _TITLE_WIDTH)])
    panels[0].set_title(key, fontsize=9.5, color="0.3")
    figure.suptitle(f"Test accuracy against sharpness: {report.preset}")
    legend_below(figure, _legend_entries(summary[is_shown]), columns=2)
    return figure


def _draw_panel(
    axes: Axes, points: pd.DataFrame, methods: Mapping[str, MethodName]
) -> set[str]:
    """Draws all points; returns which kinds occur."""
    low = points["accuracy"].median() - _FAR_BELOW
    is_below = points["accuracy"] < low
    shown = points["accuracy"][~is_below]
    floor = shown.min() - 0.15 * max(shown.max() - shown.min(), 1.0)
    changed = {"kind": "below", "accuracy": floor}
    errors = ["sharpness_error", "accuracy_error"]
    points.loc[is_below, [*changed, *errors]] = [*changed.values(), 0.0, 0.0]
    # A bar must not reach zero on a logarithmic axis.
    left = points["sharpness_error"].clip(upper=0.9 * points["sharpness"])
    points = points.assign(left=left)
    for point in points.itertuples(index=False):
        axes.errorbar(
            point.sharpness,
            point.accuracy,
            xerr=[[point.left], [point.sharpness_error]],
            yerr=point.accuracy_error,
            color=METHODS[methods[point.name]].colour,
            linestyle="none",
            elinewidth=1.5,
            **_MARKERS[point.kind],
        )
    _scale_sharpness(axes, points)
    axes.margins(y=0.08)
    axes.set_ylabel("test accuracy (%)")
    return set(points["kind"])


def _scale_sharpness(axes: Axes, points: pd.DataFrame) -> None:
    """A logarithmic axis with a few labelled ticks, however near or far the points."""
    low = (points["sharpness"] - points["left"]).min()
    high = (points["sharpness"] + points["sharpness_error"]).max()
    widening = max((high / low) ** 0.06, 2 / math.sqrt(high / low))
    low, high = low / widening, high * widening
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    log_ticks(axes.xaxis)


def _legend_entries(summary: pd.DataFrame) -> list[Line2D]:
    entries = []
    for row in summary.reset_index().itertuples():
        text = "no run finished"
        if row.test_accuracy_seeds:
            error = row.test_accuracy_standard_error
            text = f"{format_percent(row.test_accuracy, error)}%"
            if row.test_accuracy_seeds < row.seeds_asked:
                text += f" ({row.test_accuracy_seeds} of {row.seeds_asked} runs)"
        style = {"color": METHODS[row.method].colour, "linestyle": "none"}
        style |= {"label": f"{label(row.name)}: {text}", **_MARKERS["mean"]}
        entries.append(Line2D([], [], **style))
    return entries
