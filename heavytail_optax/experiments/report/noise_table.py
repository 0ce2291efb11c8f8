"""The tables and the words of `heavytail diagnose`, and its CSV."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from heavytail_optax.experiments.measures.gradient_noise import SIZES
from heavytail_optax.experiments.measures.noise_tails import ALTERNATIVES, LayerTail
from heavytail_optax.experiments.report.columns import NOTHING, Column
from heavytail_optax.experiments.report.diagnosed_runs import DiagnosedRun
from heavytail_optax.experiments.report.number_format import format_number
from heavytail_optax.experiments.report.text_table import text_tables
from heavytail_optax.tail_index import TailFit, TailIndex

_RIVALS = ALTERNATIVES["projection"]
_NAMES = {"student_t": "Student", "stable": "stable"}
_MEANINGS = {
    "norm": "Norm of the noise",
    "projection": "Along one direction",
    "coordinate": "Single coordinates",
}


def noise_report(run: DiagnosedRun, width: int = 100) -> Group:
    """Two tables, the verdicts in words and the proposed settings."""
    lines = [*_verdicts(run), "", *_proposal(run)]
    return Group(
        Text(f"{run.label}: noise of the gradient at the end", style="bold"),
        *_tails_table(run, width),
        *_fits_table(run, width),
        *(Text(note, style="dim") for note in _NOTES),
        Text(""),
        *map(Text, lines),
        Text(""),
    )


def noise_csv(runs: Sequence[DiagnosedRun]) -> str:
    """A row for each run, layer and size, unrounded. What is not known is empty."""
    rows = [_row(run, tail) for run in runs for tail in run.tails]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


_NOTES = (
    (
        "Hill: tail index from the k largest of so many independent draws, with its 95% "
        "interval, which allows for bias; of use only where the verdict is heavy-tailed. "
        "Where the interval leaves it out, the estimate is biased; with none, no power law "
        "fits; from 0 to inf, the largest draws are equal, as clipped ones are. The norm is "
        "that of g_i - g, of a small batch's gradient and that of all training images; the other "
        "two are absolute values along a direction drawn once, and of a coordinate drawn "
        "for each batch."
    ),
    (
        "Fits: normalised log-likelihood ratio of the power law to each other law "
        "(p-value). Negative speaks for the other law; p above .1 for neither."
    ),
)


def _tails_table(run: DiagnosedRun, width: int):
    def column(heading: str, texts: Sequence[str]) -> Column:
        return Column((heading,), tuple(texts))

    tails = run.tails
    lead = [
        column("Layer", [tail.layer for tail in tails]),
        column("Noise", [tail.size for tail in tails]),
        column("Draws", [f"{tail.draws:,}" for tail in tails]),
        column("k", [f"{t.assessment.k}" if t.assessment else NOTHING for t in tails]),
        column("Hill (95% interval)", [_hill(tail) for tail in tails]),
        column("Verdict", [tail.verdict for tail in tails]),
    ]
    return text_tables(lead, lead, [], width)


def _hill(tail: LayerTail) -> str:
    if tail.assessment is None:
        return NOTHING
    return _index(tail.assessment.index)


def _index(index: TailIndex) -> str:
    value, lower, upper = (
        f"{float(x):.2f}" for x in (index.estimate, index.lower, index.upper)
    )
    if value == "nan":
        return NOTHING
    return f"{value} (none)" if lower == "inf" else f"{value} ({lower} to {upper})"


def _fits_table(run: DiagnosedRun, width: int):
    tails = [run.tail(size) for size in SIZES]
    lead = [Column(("All layers",), tuple(tail.size for tail in tails))]
    lead += [
        Column(
            (_NAMES.get(name, name),), tuple(_ratio(t.fits.get(name)) for t in tails)
        )
        for name in _RIVALS
    ]
    return text_tables(lead, lead, [], width)


def _ratio(fit: TailFit | None) -> str:
    if fit is None or math.isnan(fit.normalised_ratio):
        return NOTHING
    return f"{fit.normalised_ratio:+.1f} ({format_number(fit.p_value, 2)})"


def _verdicts(run: DiagnosedRun) -> list[str]:
    lines = [f"Verdict for {run.label}: {run.tail('norm').verdict}."]
    for size in SIZES:
        tail = run.tail(size)
        reasons = tail.assessment.reasons if tail.assessment else ()
        lines.append(f"- {_MEANINGS[size]}. {' '.join([tail.sentence, *reasons])}")
    return lines


def _proposal(run: DiagnosedRun) -> list[str]:
    found = run.proposal
    if found is None:
        return ["No settings are proposed: the noise is zero or not finite."]
    alpha, scale, bound, update, noise = (
        format_number(float(x))
        for x in (
            found.alpha,
            found.scale,
            found.max_norm,
            found.typical_update_norm,
            found.typical_noise_norm,
        )
    )
    share = f"{100 * float(found.truncated_share):g}%"
    rate = format_number(run.settings.training.learning_rate)
    return [
        (
            f"Proposed for tail inflation, from the noise at the end of "
            f"training: alpha {alpha}, scale "
            f"{scale}, max_norm {bound}."
        ),
        (
            f"With the learning rate {rate} a typical update has norm {update}, and its "
            f"noise {noise}; half of all steps would have as much noise or more, and "
            f"{share} of them would be truncated. It is a place to start a search from."
        ),
        (
            f"Options of heavytail train: --methods balanced --alpha {alpha} "
            f"--inflation-scale {scale} --max-norm {bound}"
        ),
    ]


def _row(run: DiagnosedRun, tail: LayerTail) -> dict[str, Any]:
    values: dict[str, Any] = {
        "method": run.method,
        "seed": run.settings.seed,
        "batch_size": run.batch_size,
        "layer": tail.layer,
        "parameters": tail.parameters,
        "noise": tail.size,
        "draws": tail.draws,
    }
    names = (
        *("k", "num_tied", "hill", "standard_error", "lower", "upper"),
        *("outer_hill", "drift_p_value", "gamma", "gamma_standard_error"),
        *("pareto_fit_lower", "pareto_fit_upper"),
    )
    values |= dict.fromkeys(names)
    if tail.assessment is not None:
        found = tail.assessment
        index, drift, pareto = found.index, found.drift, found.pareto
        numbers = (
            *(found.k, int(index.num_tied), index.estimate, index.standard_error),
            *(index.lower, index.upper),
            *(drift.outer_estimate, drift.p_value),
            *(pareto.gamma, pareto.gamma_standard_error, pareto.lower, pareto.upper),
        )
        values |= {
            name: number if isinstance(number, int) else float(number)
            for name, number in zip(names, numbers, strict=True)
        }
    for name in _RIVALS:
        fit = tail.fits.get(name)
        values |= {
            f"{name}_ratio": fit and fit.ratio,
            f"{name}_normalised_ratio": fit and fit.normalised_ratio,
            f"{name}_p_value": fit and fit.p_value,
        }
    for name, value in values.items():
        if isinstance(value, float) and math.isnan(value):
            values[name] = None
    return {**values, "verdict": tail.verdict, "sentence": tail.sentence}
