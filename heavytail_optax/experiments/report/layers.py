"""What `heavytail flatness --by-layer` shows: a row a layer of a run, and dots."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Group
from rich.text import Text

from ..measures.flatness import SCALARS
from ..methods import METHODS
from .flatness import MeasuredRun, label_with_accuracy, on_few_images
from .style import legend_below, log_ticks, panel_grid, styled
from .tables import (
    Column,
    format_percent,
    format_with_error,
    mean_column,
    measure_heading,
    text_column,
    text_tables,
)

_PANEL = (4.6, 3.6)  # inches
_GROUP = 0.8  # of the distance between two layers, for all dots of a layer
_ERROR = "_standard_error"
_LEGEND = (
    "Value ± standard error of its own sampling, on the training images as they are "
    "labelled, as a function of the layer alone: the rest of the network is held fixed. "
    "The traces of the layers add up to that of the network; the others do not."
)


def values_of(runs: Sequence[MeasuredRun]) -> pd.DataFrame:
    """The long table: a row a layer of a run, in the order of the layers."""
    rows = []
    for each in runs:
        layers: dict[str, dict[str, float | None]] = {}
        for measured in each.record.values():
            for name, (value, error) in measured.outcome.scalars.items():
                layer, _, scalar = name.rpartition("/")
                own = layers.setdefault(layer, {})
                own |= {scalar: value, f"{scalar}{_ERROR}": error}
        lead = {
            "method": each.run.method,
            "seed": each.run.settings.seed,
            "label": each.run.label,
            "train_accuracy": each.result.train_accuracy,
            "test_accuracy": each.result.test_accuracy,
        }
        rows += [{**lead, "layer": layer, **own} for layer, own in layers.items()]
    known = [scalar for scalars in SCALARS.values() for scalar in scalars]
    found = {name for row in rows for name in row}
    columns = [f"{k}{end}" for k in known if k in found for end in ("", _ERROR)]
    lead = ["method", "seed", "label", "train_accuracy", "test_accuracy", "layer"]
    table = pd.DataFrame(rows, columns=[*lead, *columns])
    return table.astype(dict.fromkeys(columns, "float"))


def scalars_of(values: pd.DataFrame) -> list[str]:
    """The measures that a table has."""
    names = values.columns[values.columns.str.endswith(_ERROR)]
    return [name.removesuffix(_ERROR) for name in names]


def table_of(
    runs: Sequence[MeasuredRun], values: pd.DataFrame, width: int = 100
) -> Group:
    """One row a layer of a run, remarks below."""
    is_first = ~values["label"].duplicated()
    shown = values["label"].where(is_first, "")
    lead = [
        Column("Run", list(shown)),
        text_column("Train\n%", values, format_percent, "train_accuracy"),
        Column("Layer", list(values["layer"])),
    ]
    blocks = [
        [mean_column(measure_heading(name), values, format_with_error, name)]
        for name in scalars_of(values)
    ]
    tables = text_tables(lead, [lead[0], lead[2]], blocks, width)
    remarks = [
        f"{each.run.label}, {name}: {remark}."
        for each in runs
        for name, remark in each.remarks.items()
    ]
    notes = [_LEGEND, *on_few_images(runs), *remarks]
    return Group(*tables, *(Text(note, style="dim") for note in notes))


@styled
def draw(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A panel a measure, with a dot for each layer of each run."""
    values = values_of(runs)
    scalars = [name for name in scalars_of(values) if (values[name] > 0).any()]
    if not scalars:
        return None
    columns, legend_height = min(3, len(scalars)), 0.5 + 0.25 * len(runs) / 2
    figure, grid = panel_grid(len(scalars), columns, _PANEL, legend_height)
    layers = list(dict.fromkeys(values["layer"]))
    width = _GROUP / len(runs)
    handles = []
    for axes, name in zip(grid, scalars, strict=True):
        handles = []
        for number, each in enumerate(runs):
            own = values[values["label"] == each.run.label].set_index("layer")
            # A logarithmic axis has no place for what is not positive.
            heights = own[name].reindex(layers)
            heights = heights.where(heights > 0)
            at = np.arange(len(layers)) + (number + 0.5) * width - _GROUP / 2
            label = label_with_accuracy(each.run, each.result)
            style = {"color": METHODS[each.run.method].colour, "label": label}
            error = own[f"{name}{_ERROR}"].reindex(layers)
            # Dots, as a bar on a logarithmic axis has no foot.
            dots = {"fmt": "o", "markersize": 5, "capsize": 2}
            handles.append(axes.errorbar(at, heights, error, **dots, **style))
        axes.set_yscale("log")
        log_ticks(axes.yaxis)
        heading = measure_heading(name).replace("\n", " ")
        axes.set_title(f"{heading} (logarithmic)")
        axes.set_xticks(range(len(layers)), layers, rotation=30, ha="right")
        axes.grid(visible=False, axis="x")
    legend_below(figure, handles, columns=max(2, columns))
    return figure
