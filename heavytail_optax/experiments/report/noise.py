"""What `heavytail diagnose` shows of a run: tails, norms over training, a proposal."""

import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Group
from rich.text import Text

from heavytail_optax.tail_index import (
    ProposedSettings,
    plot_hill,
    plot_pareto_qq,
    propose_settings,
)

from ..measures.gradient_noise import (
    ALL,
    SIZES,
    NoiseDraws,
    Size,
    noise_arguments,
    read_noise,
)
from ..measures.noise_tails import ALTERNATIVES, LayerTail, assess_noise
from ..methods import METHODS
from ..runs.grid import Run
from ..storage.metrics_log import read_metrics
from .style import legend_below, log_ticks, styled
from .tables import format_number, text_column, text_tables

_RIVALS = ALTERNATIVES["projection"]
_MARKERS: dict[Size, str] = {"norm": "o", "projection": "s", "coordinate": "^"}
# Column of the table -> where an assessment has it.
_NUMBERS = {
    "k": "k",
    "num_tied": "index.num_tied",
    "hill": "index.estimate",
    "standard_error": "index.standard_error",
    "lower": "index.lower",
    "upper": "index.upper",
    "outer_hill": "drift.outer_estimate",
    "drift_p_value": "drift.p_value",
    "gamma": "pareto.gamma",
    "gamma_standard_error": "pareto.gamma_standard_error",
    "pareto_fit_lower": "pareto.lower",
    "pareto_fit_upper": "pareto.upper",
}
_NOTES = (
    "Hill: tail index from the k largest of so many independent draws, with its 95% "
    "interval, which allows for bias; of use only where the verdict is heavy-tailed. "
    "Where the interval leaves it out, the estimate is biased; with none, no power "
    "law fits; from 0 to inf, the largest draws are equal, as clipped ones are. The "
    "norm is that of g_i - g, of a small batch's gradient and that of all training "
    "images; the other two are absolute values along a direction drawn once, and of a "
    "coordinate drawn for each batch.\n"
    "Fits: normalised log-likelihood ratio of the power law to each other law "
    "(p-value). Negative speaks for the other law; p above 0.1 for neither."
)


class DiagnosedRun(NamedTuple):
    """A run whose noise has been measured."""

    run: Run
    batch_size: int  # images of the batches whose noise was measured
    draws: NoiseDraws  # at the end of the run
    tails: list[LayerTail]
    proposal: ProposedSettings | None  # None where the norms are of no use

    def tail(self, size: Size) -> LayerTail:
        """The tail of one size of all layers."""
        return next(t for t in self.tails if (t.size, t.layer) == (size, ALL))


def diagnosed_runs(
    runs: Sequence[Run], draws: int, batch_size: int | None, truncated_share: float
) -> list[DiagnosedRun]:
    """Those of the finished runs whose noise is kept, in their order."""
    found = []
    for run in runs:
        wanted = noise_arguments(run.settings, draws, batch_size)
        noise = read_noise(run.paths.noise_of(**wanted))
        if noise is None:
            continue
        norms = noise.of("norm"), noise.gradient_norms
        proposal = None
        if np.isfinite(norms).all() and norms[0].any() and norms[0].size >= 10:
            proposal = propose_settings(
                *map(jnp.asarray, norms),
                run.settings.training.learning_rate,
                alpha=run.settings.method.alpha,
                truncated_share=truncated_share,
            )
        tails = assess_noise(noise)
        found.append(DiagnosedRun(run, wanted["batch_size"], noise, tails, proposal))
    return found


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
        text_column("Hill (95% interval)", values, _index, "hill", "lower", "upper"),
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
        verdicts.append(f"- {tail.size}: {' '.join([tail.sentence, *reasons])}")
    return Group(
        Text(f"{each.run.label}: noise of the gradient at the end", style="bold"),
        *text_tables(tails, [], [], width),
        *text_tables(fits, [], [], width),
        Text(_NOTES, style="dim"),
        Text("\n".join(["", *verdicts, "", _proposal(each), ""])),
    )


def _index(value: float, lower: float, upper: float) -> str:
    interval = "none" if lower == math.inf else f"{lower:.2f} to {upper:.2f}"
    return f"{value:.2f} ({interval})"


def _fit(ratio: float, p_value: float) -> str:
    return f"{ratio:+.1f} ({format_number(p_value, 2)})"


def _proposal(each: DiagnosedRun) -> str:
    found = each.proposal
    if found is None:
        return "No settings are proposed: the noise is zero or not finite."
    alpha, scale, bound, update, noise, rate = (
        format_number(float(x))
        for x in (
            *(found.alpha, found.scale, found.max_norm, found.typical_update_norm),
            *(found.typical_noise_norm, each.run.settings.training.learning_rate),
        )
    )
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


@styled
def draw_noise(runs: Sequence[DiagnosedRun]) -> Figure:
    """Norms over training, Hill plot, quantiles, and the tail index by layer."""
    figure = Figure(figsize=(9.6, 7.4))
    norms, hill, quantiles, layers = figure.subplots(2, 2).flat
    for each in runs:
        colour = METHODS[each.run.method].colour
        history = pd.DataFrame(read_metrics(each.run.paths.metrics)).set_index("step")
        norms.plot(history["update_norm"], color=colour)
        norms.plot(history["largest_update_norm"], color=colour, alpha=0.5)
        _draw_tail(hill, quantiles, each)
    for axes, title in (
        (norms, "Norms over training: median, and pale the largest"),
        (hill, "Hill plot of the noise's norm"),
        (quantiles, "Its quantiles, and a power law's"),
        (layers, "Tail index by layer"),
    ):
        axes.set_title(title)
    for axes in (norms, layers):
        axes.set_yscale("log")
        log_ticks(axes.yaxis, (1.0, 2.0, 3.0, 5.0))
    norms.set_xlabel("step")
    norms.set_ylabel("norm of the update")
    names = runs[0].draws.layers
    _draw_layers(layers, noise_values(runs), names)
    layers.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=8)
    layers.set_ylabel("Hill's estimate, 95% interval")
    layers.axhline(2.0, color="black", linewidth=0.8, linestyle=":")
    legend = [
        Line2D([], [], color=METHODS[each.run.method].colour, label=each.run.label)
        for each in runs
    ]
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
    plot_hill(values, min(3 * k, values.size - 1), axes=hill)
    plot_pareto_qq(values, k, axes=quantiles)
    for artist in (hill.lines[-1], hill.collections[-1], *quantiles.lines[-2:]):
        artist.set_color(colour)
    hill.axvline(k, color=colour, linewidth=0.8, linestyle=":")


def _draw_layers(axes: Axes, values: pd.DataFrame, layers: Sequence[str]) -> None:
    """All estimates of a layer beside each other, with their intervals."""
    columns = list(dict.fromkeys(zip(values["method"], values["noise"], strict=True)))
    for row in values.itertuples():
        shift = (columns.index((row.method, row.noise)) + 0.5) / len(columns) - 0.5
        x, colour = layers.index(row.layer) + 0.6 * shift, METHODS[row.method].colour
        if math.isfinite(row.upper - row.lower):
            # The estimate may lie outside of its interval, which tells of bias.
            axes.vlines(x, row.lower, row.upper, color=colour, linewidth=1)
        face = colour if row.verdict == "heavy-tailed" else "white"
        axes.plot(
            x, row.hill, _MARKERS[row.noise], color=colour, mfc=face, markersize=4
        )
