"""The figure of `heavytail diagnose`: norms, Hill plot, Pareto quantiles, layers."""

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from heavytail_optax.experiments.methods import METHOD_COLOURS
from heavytail_optax.experiments.report.diagnosed_runs import DiagnosedRun
from heavytail_optax.experiments.storage.durable_files import replacing
from heavytail_optax.tail_index import plot_hill, plot_pareto_qq

_DPI = 110
_SIZE = (9.6, 7.4)  # inches
_MARKERS = {"norm": "o", "projection": "s", "coordinate": "^"}


def plot_noise(path: pathlib.Path, runs: Sequence[DiagnosedRun]) -> None:
    """Writes a PNG."""
    figure = draw_noise(runs)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def draw_noise(runs: Sequence[DiagnosedRun]) -> Figure:
    """The figure that `plot_noise` writes."""
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    norms, hill, quantiles, layers = figure.subplots(2, 2).flat
    for number, run in enumerate(runs):
        colour = METHOD_COLOURS[run.method]
        _draw_norms(norms, run, colour)
        _draw_tail(hill, quantiles, run, colour)
        shift = 0.6 * ((number + 0.5) / len(runs) - 0.5)
        _draw_layers(layers, run, colour, shift, 0.6 / len(runs))
    layers.set_yscale("log")
    norms.set_xlabel("step")
    norms.set_ylabel(" / ".join(dict.fromkeys(run.history.what for run in runs)))
    for axis in (norms.yaxis, layers.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    norms.set_title("Norms over training", loc="left", fontsize=10)
    hill.set_title("Hill plot of the noise's norm", loc="left", fontsize=10)
    quantiles.set_title("Its quantiles, and a power law's", loc="left", fontsize=10)
    layers.set_title("Tail index by layer", loc="left", fontsize=10)
    names = runs[0].draws.layers
    layers.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=8)
    layers.set_ylabel("Hill's estimate, 95% interval")
    layers.axhline(2.0, color="black", linewidth=0.8, linestyle=":")
    for axes in (norms, hill, quantiles, layers):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        handles=[*_run_handles(runs), *_marker_handles()],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    return figure


def _run_handles(runs: Sequence[DiagnosedRun]) -> list[Line2D]:
    return [
        Line2D([], [], color=METHOD_COLOURS[run.method], label=run.label)
        for run in runs
    ]


def _marker_handles() -> list[Line2D]:
    style = {"color": "#555555", "linestyle": "none", "markersize": 5}
    marks = [
        Line2D([], [], marker=marker, label=size, markerfacecolor="none", **style)
        for size, marker in _MARKERS.items()
    ]
    filled = Line2D([], [], marker="o", label="filled: verdict heavy-tailed", **style)
    return [*marks, filled]


def _draw_norms(axes: Axes, run: DiagnosedRun, colour: str) -> None:
    history = run.history
    axes.semilogy(history.steps, history.median, color=colour, linewidth=1.5)
    axes.semilogy(history.steps, history.largest, color=colour, linewidth=1, alpha=0.5)
    if history.steps.size:
        last = history.steps[-1]
        for values, text in ((history.median, "median"), (history.largest, "largest")):
            place = (last, values[-1])
            axes.annotate(
                text,
                place,
                (0, 6),
                textcoords="offset points",
                fontsize=8,
                color=colour,
                ha="right",
            )


def _draw_tail(hill: Axes, quantiles: Axes, run: DiagnosedRun, colour: str) -> None:
    values = run.draws.of("norm")
    values = values[values > 0.0]
    tail = run.tail("norm")
    if tail.assessment is None:
        return
    k = tail.assessment.k
    plot_hill(values, min(3 * k, values.size - 1), axes=hill)
    hill.lines[-1].set_color(colour)
    hill.collections[-1].set_color(colour)
    hill.axvline(k, color=colour, linewidth=0.8, linestyle=":")
    plot_pareto_qq(values, k, axes=quantiles)
    for line in quantiles.lines[-2:]:
        line.set_color(colour)


def _draw_layers(
    axes: Axes, run: DiagnosedRun, colour: str, shift: float, room: float
) -> None:
    for number, (size, marker) in enumerate(_MARKERS.items()):
        for place, layer in enumerate(run.draws.layers):
            tail = run.tail(size, layer)
            if tail.assessment is None:
                continue
            index = tail.assessment.index
            middle, low, high = (
                float(x) for x in (index.estimate, index.lower, index.upper)
            )
            x = place + shift + room * ((number + 0.5) / 3 - 0.5)
            if np.isfinite([low, high]).all():
                # The estimate may lie outside of its interval, which tells of bias.
                half = 0.5 * (high - low)
                axes.errorbar(x, low + half, half, color=colour, linewidth=1, capsize=2)
            if np.isfinite(middle):
                is_heavy = tail.verdict == "heavy-tailed"
                face = colour if is_heavy else "white"
                axes.plot(
                    *(x, middle),
                    color=colour,
                    marker=marker,
                    markersize=4,
                    markerfacecolor=face,
                    linestyle="none",
                )
