"""What `heavytail flatness` shows: a row a run, and curves with a colour a method."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from rich.console import Group
from rich.text import Text

from heavytail_optax._plot_axes import dashes

from ..measures.flatness import SCALARS
from ..measures.measure import Measured
from ..methods import METHODS
from ..runs.grid import Run
from ..runs.result import RunResult
from ..setting_rules import either
from .style import legend_below, panel_grid, styled
from .summary import FAILED, cannot_show, measures_of, named_runs, runs_table
from .tables import (
    Column,
    format_percent,
    format_with_error,
    mean_column,
    measure_heading,
    text_column,
    text_tables,
)

_REMARK = "*"
_PANEL = (4.6, 3.6)  # inches
# What is further below the top of a density is only the bell curves it is made of.
_LOWEST_DENSITY = 1e-5
# Room for the highest loss on a line, as a multiple of the median of all ends.
_TIMES_MEDIAN = 3.0

Style = Mapping[str, Any]
Curves = Sequence[tuple[Style, pd.DataFrame]]


class MeasuredRun(NamedTuple):
    """A finished run with what has been measured of it, now or earlier."""

    run: Run
    result: RunResult
    record: Mapping[str, Measured]  # by layer, the names of scalars are LAYER/SCALAR

    @property
    def remarks(self) -> dict[str, str]:
        """Measure -> what is to be said of it."""
        outcomes = {name: each.outcome for name, each in self.record.items()}
        return {name: each.remark for name, each in outcomes.items() if each.remark}

    @property
    def curves(self) -> dict[str, pd.DataFrame]:
        """The curves of all measures."""
        outcomes = [each.outcome for each in self.record.values()]
        found = {name: x for each in outcomes for name, x in each.curves.items()}
        return {name: pd.DataFrame(dict(curve)) for name, curve in found.items()}


def label_with_accuracy(run: Run, result: RunResult) -> str:
    """The name of a run in the legend: what did not learn may look flat."""
    accuracy = format_percent(result.train_accuracy or math.nan)
    return f"{run.label}: training accuracy {accuracy}%"


def values_of(runs: Sequence[MeasuredRun]) -> pd.DataFrame:
    """The long table, with remarks."""
    table = runs_table([each.result for each in runs], [each.run.name for each in runs])
    remarks = [[f"{k}: {text}" for k, text in each.remarks.items()] for each in runs]
    return table.assign(remarks=["; ".join(each) for each in remarks])


def table_of(
    runs: Sequence[MeasuredRun], values: pd.DataFrame, width: int = 100
) -> Group:
    """One row a run: accuracies beside every scalar, remarks below."""
    marks = zip(runs, values["failed"].notna(), strict=True)
    lead = [
        Column("Run", [each.run.label + FAILED * failed for each, failed in marks]),
        text_column("Train\n%", values, format_percent, "train_accuracy"),
        text_column("Test\n%", values, format_percent, "test_accuracy"),
    ]
    blocks = [[_scalar_column(runs, values, name)] for name in measures_of(values)]
    tables = text_tables(lead, lead, blocks, width)
    lines = [Text(line) for line in cannot_show(values)]
    return Group(*tables, *lines, *(Text(x, style="dim") for x in _notes(runs, values)))


def _scalar_column(
    runs: Sequence[MeasuredRun], values: pd.DataFrame, name: str
) -> Column:
    owner = next((each for each, names in SCALARS.items() if name in names), name)
    marks = [f" {_REMARK}" * (owner in each.remarks) for each in runs]
    column = mean_column(measure_heading(name), values, format_with_error, name)
    texts = zip(column.texts, marks, strict=True)
    return column._replace(texts=[text + mark for text, mark in texts])


def _notes(runs: Sequence[MeasuredRun], values: pd.DataFrame) -> list[str]:
    """How to read the table, and what is wrong with which run."""
    legend = (
        "Value ± standard error of its own sampling, on the training images as they "
        "are labelled. All measures are larger where the minimum is sharper; a run "
        "that did not learn may look flat."
    )
    records = [run.record for run in runs]
    if any("escape" in record for record in records):
        legend += " Escape: share of paths that have left after the last jump."
    notes = [legend, *on_few_images(runs)]
    for name in dict.fromkeys(name for record in records for name in record):
        found = [record[name].arguments for record in records if name in record]
        table = pd.DataFrame(map(dict, found), dtype=object).astype(str)
        changed = [
            f"{argument} {either(sorted(set(values)))}"
            for argument, values in table.items()
            if values.nunique() > 1
        ]
        if changed:
            notes.append(
                f"{name}: the runs were not measured alike, and should not be "
                f"compared: {'; '.join(changed)}. --again measures anew."
            )
    if named := named_runs(values, values["failed"]):
        notes.append(f"{FAILED.strip()} Did not learn the training images: {named}.")
    return notes + [
        f"{_REMARK} {run.run.label}, {name}: {remark}."
        for run in runs
        for name, remark in run.remarks.items()
    ]


def on_few_images(runs: Sequence[MeasuredRun]) -> list[str]:
    """Which measures were taken on a part of the training images."""
    found: dict[int, dict[str, None]] = {}
    for run in runs:
        for name, measured in run.record.items():
            if "images" in measured.arguments:
                found.setdefault(measured.arguments["images"], {})[name] = None
    return [
        f"On {images:,} of the training images: {', '.join(names)}."
        for images, names in sorted(found.items())
    ]


@styled
def draw(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A panel for each curve that any run has; None without any."""
    styles = [
        {"color": METHODS[run.run.method].colour, "linestyle": dashes(number)}
        for number, run in enumerate(runs)
    ]
    found = [(style, run.curves) for style, run in zip(styles, runs, strict=True)]
    panels: dict[str, Curves] = {
        name: curves
        for name in _PANELS
        if (curves := [(style, own[name]) for style, own in found if name in own])
    }
    if not panels:
        return None
    columns, legend_height = min(3, len(panels)), 0.3 + 0.25 * len(runs) / 2
    figure, grid = panel_grid(len(panels), columns, _PANEL, legend_height)
    for axes, (name, curves) in zip(grid, panels.items(), strict=True):
        title, x, draw_curves = _PANELS[name]
        axes.set(title=title, xlabel=x)
        axes.xaxis.set_major_locator(
            MaxNLocator(6, integer=draw_curves is _draw_escape)
        )
        draw_curves(axes, curves)
    handles = []
    for run, (style, own) in zip(runs, found, strict=True):
        if not own.keys() & panels.keys():  # nothing of it is drawn
            continue
        label = label_with_accuracy(run.run, run.result)
        handles.append(Line2D([], [], label=label, **style))
    legend_below(figure, handles, columns=max(2, columns))
    return figure


def _draw_density(axes: Axes, curves: Curves) -> None:
    floor = _LOWEST_DENSITY * max(columns["density"].max() for _, columns in curves)
    for style, columns in curves:
        points, values = columns["eigenvalue"], columns["density"]
        errors = np.nan_to_num(columns["standard_error"])
        low, high = (np.maximum(x, floor) for x in (values - errors, values + errors))
        axes.semilogy(points, np.maximum(values, floor), linewidth=1, **style)
        colour = style["color"]
        axes.fill_between(points, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_ylim(bottom=floor)
    axes.set_ylabel("density (logarithmic)")


def _draw_line(axes: Axes, curves: Curves) -> None:
    for style, columns in curves:
        axes.plot(columns["coefficient"], columns["loss"], **style)
    ends = [np.nanmax(columns["loss"], initial=0.0) for _, columns in curves]
    # A loss that leaves the panel lets the others be read.
    top = _TIMES_MEDIAN * float(np.median(ends))
    if 0.0 < top < max(ends):
        axes.set_ylim(top=top)
    axes.set_ylim(bottom=0.0)


def _draw_escape(axes: Axes, curves: Curves) -> None:
    for number, (style, columns) in enumerate(curves):
        middle = columns["probability"]
        bars = np.maximum([middle - columns["lower"], columns["upper"] - middle], 0.0)
        # Beside each other, as many have the same value.
        shift = 0.5 * ((number + 0.5) / len(curves) - 0.5)
        marks = {"marker": "o", "markersize": 4, "linewidth": 1, "capsize": 2}
        axes.errorbar(columns["jumps"] + shift, middle, bars, **marks, **style)
    axes.set_ylim(-0.05, 1.05)


_PANELS: dict[str, tuple[str, str, Callable[[Axes, Curves], None]]] = {
    "density": ("Density of the Hessian's eigenvalues", "eigenvalue", _draw_density),
    "line_eigenvector": (
        "Loss along the top eigenvector",
        "distance moved",
        _draw_line,
    ),
    "line_random": (
        "Loss along a random direction",
        "distance in norms of the filters",
        _draw_line,
    ),
    "escape_noise": ("P(escape), along gradient noise", "jumps", _draw_escape),
    "escape_eigenvector": ("P(escape), along top eigenvector", "jumps", _draw_escape),
    "escape_isotropic": ("P(escape), along random directions", "jumps", _draw_escape),
}
