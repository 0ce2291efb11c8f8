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
    "mean": {"marker": "D", "markersize": 8, "markeredgecolor": "black", "zorder": 4},
    "paper": {"marker": "s", "markersize": 9, "fillstyle": "none", "zorder": 5},
}
_KEY = {
    "run": "dots: runs",
    "failed": "crosses: did not learn",
    "mean": "diamonds: mean ± standard error",
    "paper": "squares: paper",
    "outside": "triangles: beyond the axes",
}
_ROOM = 0.08  # of an axis, beyond the points at each end


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
        key = key.replace(_KEY["mean"], "diamonds: one run each")
    shown = {name for found in drawn.values() for name in found["name"]}
    is_shown = summary.index.isin(shown)
    key = textwrap.fill(key, _TITLE_WIDTH)
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
    # A bar must not reach zero on a logarithmic axis.
    left = points["sharpness_error"].clip(upper=0.9 * points["sharpness"])
    points = points.assign(left=left, marker="")
    core = _core(points)
    low, high = _widened(
        (core["accuracy"] - core["accuracy_error"]).min(),
        (core["accuracy"] + core["accuracy_error"]).max(),
        least=1.0,
    )
    ends = (
        (core["sharpness"] - core["left"]).min(),
        (core["sharpness"] + core["sharpness_error"]).max(),
    )
    logs = _widened(*map(math.log, ends), least=math.log(4.0))
    first, last = map(math.exp, logs)
    axes.set(xscale="log", xlim=tuple(map(math.exp, _widened(*logs))))
    axes.set_ylim(_widened(low, high))
    for marker, is_outside in (
        ("<", points["sharpness"] < first),
        (">", points["sharpness"] > last),
        ("v", points["accuracy"] < low),
        ("^", points["accuracy"] > high),
    ):
        points.loc[is_outside, "marker"] = marker
    is_outside = points["marker"] != ""
    points.loc[is_outside, ["left", "sharpness_error", "accuracy_error"]] = 0.0
    points["sharpness"] = points["sharpness"].clip(first, last)
    points["accuracy"] = points["accuracy"].clip(low, high)
    for point in points.itertuples(index=False):
        style = _MARKERS[point.kind]
        axes.errorbar(
            point.sharpness,
            point.accuracy,
            xerr=[[point.left], [point.sharpness_error]],
            yerr=point.accuracy_error,
            color=METHODS[methods[point.name]].colour,
            linestyle="none",
            elinewidth=1.5,
            **style | ({"marker": point.marker} if point.marker else {}),
        )
    log_ticks(axes.xaxis)
    axes.set_ylabel("test accuracy (%)")
    return {*points["kind"].mask(is_outside, "outside")}


def _core(points: pd.DataFrame) -> pd.DataFrame:
    """The points that the axes are for: neither failed, nor a mean with such, nor far below."""
    failed = points.loc[points["kind"] == "failed", "name"]
    is_whole = ~points["name"].isin(failed) | points["kind"].isin(["run", "paper"])
    core = points[is_whole] if is_whole.any() else points
    return core[core["accuracy"] >= core["accuracy"].median() - _FAR_BELOW]


def _widened(low: float, high: float, *, least: float = 0.0) -> tuple[float, float]:
    """The ends with room beyond them, and with a least distance between them."""
    room = max(_ROOM * (high - low), (least - (high - low)) / 2)
    return low - room, high + room


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
