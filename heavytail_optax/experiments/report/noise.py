"""What `heavytail diagnose` shows of a run: tails, norms over training, a proposal."""

import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Group
from rich.text import Text

from heavytail_optax._plot_axes import dashes
from heavytail_optax.tail_index import (
    GradientNoiseScale,
    ProposedSettings,
    gradient_noise_scale,
    plot_hill,
    plot_pareto_qq,
    propose_settings,
)

from ..measures.gradient_noise import (
    ALL,
    ALTERNATIVES,
    SIZES,
    LayerTail,
    NoiseDraws,
    Size,
)
from ..methods import METHODS
from ..runs.grid import Run
from ..training.trainer import Metrics
from .style import few_points, legend_below, log_ticks, styled
from .tables import format_number, text_column, text_tables

_RIVALS = ALTERNATIVES["projection"]
_MARKERS: dict[Size, str] = {"norm": "o", "projection": "s", "coordinate": "^"}
# Column of the table -> where an assessment has it.
_NUMBERS = {
    "k": "k",
    "num_tied": "index.num_tied",
    "hill": "index.estimate",
    "standard_error": "index.standard_error",
    "corrected": "index.corrected_estimate",
    "lower": "index.lower",
    "upper": "index.upper",
    "outer_hill": "drift.outer_estimate",
    "drift_p_value": "drift.p_value",
    "gamma": "pareto.gamma",
    "gamma_standard_error": "pareto.gamma_standard_error",
    "pareto_fit_lower": "pareto.lower",
    "pareto_fit_upper": "pareto.upper",
    "end": "truncated.end",
    "end_lower": "truncated.end_lower",
    "end_upper": "truncated.end_upper",
    "end_p_value": "truncated.p_value",
}
_CLUSTERS = {
    "extremal_index": "estimate",
    "variance_inflation": "variance_inflation",
    "independence_p_value": "p_value",
}
_SCALES = {
    "noise_scale": "noise_scale",
    "noise_scale_lower": "lower",
    "noise_scale_upper": "upper",
}
_DEPENDENT = 0.001  # of 15 rows of independent draws, one in 67 tables has one
_INTERVAL = ("corrected", "lower", "upper")
_NOTES = (
    "Hill is the tail index from the k largest of so many independent draws. Corrected is "
    "the same without its bias, with a 95% interval. Use it only where the verdict is "
    "heavy-tailed. Where it is far from Hill's, the tail is not a power law yet. With no "
    "corrected index, no power law fits. From 0 to inf, the largest draws are equal, as "
    "clipped ones are. The norm is that of g_i - g, where g_i is the gradient of a small batch and g that of all training images. Projection "
    "and coordinate are absolute values of the same vector: along a direction drawn once, "
    "and of a coordinate drawn for each batch.\n"
    "Fits: normalised log-likelihood ratio of the power law to each other law, with its "
    "p-value. A negative ratio speaks for the other law. A p-value above 0.1 speaks for "
    "neither."
)


class DiagnosedRun(NamedTuple):
    """A run whose noise has been measured."""

    run: Run
    history: Sequence[Metrics]
    batch_size: int  # images of the batches whose noise was measured
    draws: NoiseDraws  # at the end of the run
    tails: list[LayerTail]
    noise_scale: GradientNoiseScale | None  # None where the norms are of no use
    proposal: ProposedSettings | None  # likewise

    def tail(self, size: Size) -> LayerTail:
        """The tail of one size of all layers."""
        return next(t for t in self.tails if (t.size, t.layer) == (size, ALL))


def diagnosed(
    run: Run,
    history: Sequence[Metrics],
    batch_size: int,
    draws: NoiseDraws,
    tails: list[LayerTail],
    truncated_share: float,
) -> DiagnosedRun:
    """A run with the tails of its noise, and the settings that follow from it."""
    noise, gradients = draws.of("norm"), draws.gradient_norms
    scale, proposal = None, None
    if np.isfinite([noise, gradients]).all() and noise.any() and noise.size >= 10:
        scale = _noise_scale(noise, gradients, batch_size)
        proposal = propose_settings(
            jnp.asarray(noise),
            jnp.asarray(gradients),
            run.settings.training.learning_rate,
            alpha=run.settings.method.alpha,
            truncated_share=truncated_share,
        )
    return DiagnosedRun(run, history, batch_size, draws, tails, scale, proposal)


def _noise_scale(
    noise: np.ndarray, gradients: np.ndarray, batch_size: int
) -> GradientNoiseScale:
    """From `|g_i - g|` and `|g_i|`: the noise of half a batch is twice that of a batch."""
    of_half = np.hypot(gradients.astype(float), noise.astype(float))
    return gradient_noise_scale(
        of_half,
        gradients,
        small_batch_size=0.5 * batch_size,
        large_batch_size=batch_size,
    )


def noise_values(runs: Sequence[DiagnosedRun]) -> pd.DataFrame:
    """A row for each run, layer and size, unrounded; NaN where there is no value."""
    rows = [_row(each, tail) for each in runs for tail in each.tails]
    return pd.DataFrame(rows).astype({"k": "Int64", "num_tied": "Int64"})


def _row(each: DiagnosedRun, tail: LayerTail) -> dict[str, int | float | str]:
    row = {
        "method": each.run.method,
        "seed": each.run.settings.seed,
        "batch_size": each.batch_size,
        "layer": tail.layer,
        "parameters": tail.parameters,
        "noise": tail.size,
        "draws": tail.draws,
    }
    for name, path in _NUMBERS.items():
        number = operator.attrgetter(path)
        row[name] = float(number(tail.assessment)) if tail.assessment else math.nan
    for name, field in _CLUSTERS.items():
        row[name] = float(getattr(tail.clusters, field, math.nan))
    for name, field in _SCALES.items():  # of all parameters
        scale = each.noise_scale if tail.layer == ALL else None
        row[name] = float(getattr(scale, field, math.nan))
    for name in _RIVALS:
        for what in ("ratio", "normalised_ratio", "p_value"):
            row[f"{name}_{what}"] = getattr(tail.fits.get(name), what, math.nan)
    return row | {"verdict": tail.verdict, "sentence": tail.sentence}


def noise_report(each: DiagnosedRun, width: int = 100) -> Group:
    """Two tables, the verdicts in words and the proposed settings."""
    values = noise_values([each])
    tails = [
        text_column("Layer", values, str, "layer"),
        text_column("Noise", values, str, "noise"),
        text_column("Draws", values, "{:,}".format, "draws"),
        text_column("k", values, str, "k"),
        text_column("Hill", values, "{:.2f}".format, "hill"),
        text_column("Corrected\n(95% interval)", values, _index, *_INTERVAL),
        text_column("Verdict", values, str, "verdict"),
    ]
    overall = values[values["layer"] == ALL]
    fits = [text_column("All layers", overall, str, "noise")]
    for name in _RIVALS:
        columns = f"{name}_normalised_ratio", f"{name}_p_value"
        fits.append(text_column(name, overall, _fit, *columns))
    verdicts = [f"Verdict for {each.run.label}: {each.tail('norm').verdict}."]
    for tail in map(each.tail, SIZES):
        reasons = tail.assessment.reasons if tail.assessment else ()
        words = [tail.sentence, *reasons]
        if tail.clusters and tail.clusters.p_value < _DEPENDENT:
            inflation = float(tail.clusters.variance_inflation)
            words.append(
                "The draws are plainly not independent (p = "
                f"{float(tail.clusters.p_value):.1g}): the standard error is "
                f"{inflation**0.5:.1f} times as large."
            )
        verdicts.append(f"- {tail.size}: {' '.join(words)}")
    return Group(
        Text(f"{each.run.label}: noise of the gradient at the end", style="bold"),
        *text_tables(tails, [], [], width),
        *text_tables(fits, [], [], width),
        Text(_NOTES, style="dim"),
        Text("\n".join(["", *verdicts, "", _scale(each), "", _proposal(each), ""])),
    )


def _index(corrected: float, lower: float, upper: float) -> str:
    if lower == math.inf:
        return "none"
    return f"{corrected:.2f} ({lower:.2f} to {upper:.2f})"


def _fit(ratio: float, p_value: float) -> str:
    return f"{ratio:+.1f} ({format_number(p_value, 2)})"


def _scale(each: DiagnosedRun) -> str:
    found = each.noise_scale
    if found is None:
        return "No noise scale: the noise is zero or not finite."
    scale, lower, upper = map(_text, (found.noise_scale, found.lower, found.upper))
    heavy = any(each.tail(size).verdict == "heavy-tailed" for size in SIZES)
    warning = " The tail is heavy, so this number and its interval say little."
    return (
        f"Gradient noise scale: {scale} examples (95% interval {lower} to {upper}). In a "
        "batch of so many, noise and gradient have the same squared norm; the noise was "
        f"measured in batches of {each.batch_size}.{warning if heavy else ''}"
    )


def _proposal(each: DiagnosedRun) -> str:
    found = each.proposal
    if found is None:
        return "No settings are proposed: the noise is zero or not finite."
    alpha, scale, bound = map(_text, (found.alpha, found.scale, found.max_norm))
    update, noise = map(_text, (found.typical_update_norm, found.typical_noise_norm))
    rate = _text(each.run.settings.training.learning_rate)
    share = f"{100 * float(found.truncated_share):g}%"
    factor = format_number(float(found.scale * 2.0 ** (1.0 / found.alpha)), 2)
    return (
        "Proposed for tail inflation, from the noise at the end of training: alpha "
        f"{alpha}, scale {scale}, max_norm {bound}.\n"
        f"With the learning rate {rate} a typical update has norm {update}, and its "
        f"noise {noise}. Half of all steps would have {factor} times that noise or "
        f"more, and {share} of them would be truncated. Half and twice that max_norm "
        "trained as well where it was tried.\n"
        f"Options of heavytail train: --methods balanced --alpha {alpha} "
        f"--inflation-scale {scale} --max-norm {bound}"
    )


def _text(value: ArrayLike) -> str:
    return format_number(float(value))


@styled
def draw_noise(runs: Sequence[DiagnosedRun]) -> Figure:
    """Norms over training, Hill plot, quantiles, and the tail index by layer."""
    figure = Figure(figsize=(9.6, 7.4))
    norms, hill, quantiles, layers = figure.subplots(2, 2).flat
    for number, each in enumerate(runs):
        colour = METHODS[each.run.method].colour
        history = pd.DataFrame(each.history).set_index("step")
        style = {"color": colour, "linestyle": dashes(number)}
        style |= few_points(len(history))
        norms.plot(history["update_norm"], **style)
        norms.plot(history["largest_update_norm"], alpha=0.5, **style)
        if METHODS[each.run.method].truncates:
            bounds = history["max_norm"].dropna()
            norms.plot(bounds, color=colour, linewidth=0.8, linestyle=":")
        _draw_tail(hill, quantiles, each)
    names = runs[0].draws.layers
    values = noise_values(runs)
    _draw_layers(layers, values, names)
    for axes, title in (
        (norms, "Norms before truncation: median, and pale the largest"),
        (hill, "Hill plot of the noise's norm (dot: the table's row)"),
        (quantiles, "Its quantiles, and a power law's"),
        (layers, "Tail index by layer (below 2: infinite variance)"),
    ):
        axes.set_title(title)
        if not axes.has_data():
            place = {"ha": "center", "va": "center", "transform": axes.transAxes}
            axes.text(0.5, 0.5, "Cannot tell: see the verdicts.", **place)
            axes.set(xticks=[], yticks=[])
    norms.set(xlabel="step", ylabel="norm of the update", yscale="log")
    norms.set_xlim(left=0)
    log_ticks(norms.yaxis)
    if layers.has_data():
        layers.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=8)
        layers.set(ylabel="index corrected for bias, 95% interval", yscale="log")
        layers.axhline(2.0, color="black", linewidth=0.8, linestyle=":")
        log_ticks(layers.yaxis)
    legend = [
        Line2D([], [], color=METHODS[each.run.method].colour, label=each.run.label)
        for each in runs
    ]
    for name, style in (("Hill's estimate", "-"), ("corrected, 95% interval", "--")):
        legend.append(Line2D([], [], color="#555555", linestyle=style, label=name))
    if any(METHODS[each.run.method].truncates for each in runs):
        legend.append(Line2D([], [], color="#555555", linestyle=":", label="bound b"))
    mark = {"color": "#555555", "linestyle": "none", "markersize": 5}
    for size, marker in _MARKERS.items():
        mark |= {"marker": marker, "markerfacecolor": "none"}
        legend.append(Line2D([], [], label=size, **mark))
    mark |= {"marker": "o", "markerfacecolor": None}
    legend.append(Line2D([], [], label="filled: verdict heavy-tailed", **mark))
    legend_below(figure, legend, columns=3)
    return figure


def _draw_tail(hill: Axes, quantiles: Axes, each: DiagnosedRun) -> None:
    assessment, colour = each.tail("norm").assessment, METHODS[each.run.method].colour
    if assessment is None:
        return
    values = each.draws.of("norm")
    values, k = values[values > 0.0], assessment.k
    for axes in (hill, quantiles):
        axes.set_prop_cycle(color=[colour])
    plot_hill(values, min(3 * k, values.size - 1), axes=hill)
    ends = assessment.verdict == "power law up to an end"
    plot_pareto_qq(values, k, with_end=ends, axes=quantiles)
    for axes in (hill, quantiles):
        if legend := axes.get_legend():
            legend.remove()  # the figure's has all names
    index = assessment.index
    ends = np.array([[index.lower], [index.upper]])
    if np.isfinite(ends).all():
        middle = float(index.corrected_estimate)
        bars = np.abs(ends - middle)
        hill.errorbar(k, middle, bars, fmt="o", color=colour, markersize=4, capsize=3)


def _draw_layers(axes: Axes, values: pd.DataFrame, layers: Sequence[str]) -> None:
    """All estimates of a layer beside each other, with their intervals."""
    columns = list(dict.fromkeys(zip(values["method"], values["noise"], strict=True)))
    for row in values.dropna(subset="hill").itertuples():
        shift = (columns.index((row.method, row.noise)) + 0.5) / len(columns) - 0.5
        x, colour = layers.index(row.layer) + 0.6 * shift, METHODS[row.method].colour
        if math.isfinite(row.upper - row.lower):
            axes.vlines(x, row.lower, row.upper, color=colour, linewidth=1)
        face = colour if row.verdict == "heavy-tailed" else "white"
        axes.plot(
            x, row.corrected, _MARKERS[row.noise], color=colour, mfc=face, markersize=4
        )
