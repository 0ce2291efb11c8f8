"""Whether a tail is heavy, in plain words, and why."""

import textwrap
from typing import NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._result_text import short_repr
from heavytail_optax._validation import check_count, is_integer, type_error, value_error
from heavytail_optax.tail_index._arguments import check_draws, check_fewer_than
from heavytail_optax.tail_index._centring import as_samples, is_cut, largest_in_full
from heavytail_optax.tail_index._comparison import TailFit, fits_of_first
from heavytail_optax.tail_index._generalised_pareto import (
    GeneralisedPareto,
    generalised_pareto,
    pareto_of_first,
)
from heavytail_optax.tail_index._goodness import HillDrift, drift_of_first
from heavytail_optax.tail_index._hill import hill_of_first
from heavytail_optax.tail_index._padded_draws import as_traced, largest_padded
from heavytail_optax.tail_index._result import TailIndex, normal_quantile
from heavytail_optax.tail_index._truncated_pareto import TruncatedPareto
from heavytail_optax.tail_index._verdict_of_an_end import (
    LEVEL_OF_END,
    end_reason,
    fit_up_to_an_end,
    up_to_an_end,
)

_NAME = "assess_tail"
_LINE_WIDTH = 80
_ALTERNATIVES = ("exponential", "lognormal", "truncated_power_law")
_FEWEST = 30  # the least k; with fewer draws, no test has any power


class _Level(NamedTuple):
    """A significance level and its critical values."""

    p_value: float
    chi_square: float  # for a mixture: half chi-square, half at the boundary
    normal: float


_REJECTED, _DOUBTFUL = _Level(0.01, 5.41, 2.33), _Level(0.1, 1.64, 1.28)


class TailAssessment(NamedTuple):
    """What the largest draws say about the tail, as Python values.

    `print` shows the verdict, the index and the reasons, a line each. All fields are in
    `repr`.

    Attributes:
      verdict: "heavy-tailed", "power law up to an end", "not heavy-tailed", "not a power
        law" or "cannot tell".
      sentence: the verdict in a sentence, with numbers.
      reasons: the evidence for or against, each in a sentence.
      k: how many of the largest draws were used.
      index: Hill's estimate, and from the `k^(3/4)` largest the one corrected for bias,
        with its interval. It is meaningful only if the verdict is "heavy-tailed".
      drift: how it changes with k.
      pareto: the generalised Pareto fit, with a 98 % interval.
      fits: the comparison of fits.
      truncated: the fit of a power law up to an end, with 95 % intervals. Its index is
        that of the `k^(3/4)` largest, the draws at a cap not counted.
    """

    verdict: str
    sentence: str
    reasons: tuple[str, ...]
    k: int
    index: TailIndex
    drift: HillDrift
    pareto: GeneralisedPareto
    fits: dict[str, TailFit]
    truncated: TruncatedPareto

    __repr__ = short_repr

    def __str__(self) -> str:
        # Without this verdict the index is that of no tail.
        is_meant = self.verdict == "heavy-tailed"
        index = [f"Tail index: {self.index}"] if is_meant else []
        text = [self.sentence, *index, *self.reasons]
        lines = [
            textwrap.fill(
                line,
                _LINE_WIDTH,
                initial_indent=("- " if number else ""),
                subsequent_indent="  ",
                break_on_hyphens=False,
            )
            for number, line in enumerate(text)
        ]
        return "\n".join(lines)


def _default_k(num_draws: int, most: int) -> int:
    """Twice the 4/7th power: the order of the best k for Student's law of index 3."""
    return max(5, min(round(2.0 * num_draws ** (4 / 7)), num_draws // 5, most))


def _reasons_against(
    drift: HillDrift, fits: dict[str, TailFit], level: _Level
) -> list[str]:
    """The evidence against a power law from this threshold on."""
    reasons = []
    if drift.p_value < level.p_value and drift.z > 0:
        reasons.append(f"{_drift_reason(drift)}.")
    exponential, lognormal = fits["exponential"], fits["lognormal"]
    if exponential.normalised_ratio < -level.normal:
        reasons.append(
            "An exponential tail fits better (normalised log-likelihood ratio "
            f"{float(exponential.normalised_ratio):.1f})."
        )
    if -2.0 * lognormal.ratio > level.chi_square:
        reasons.append(
            "A lognormal tail fits better (log-likelihood ratio "
            f"{float(lognormal.ratio):.1f}, not normalised)."
        )
    return reasons


def _variance(index: TailIndex, pareto: GeneralisedPareto) -> str:
    if index.upper < 2.0 and pareto.upper < 2.0:
        return "its variance is infinite"
    if index.lower > 2.0 and pareto.lower > 2.0:
        return "its variance is finite"
    return "whether its variance is finite cannot be told"


def _of_index(index: TailIndex) -> str:
    """The interval and Hill's estimate, if it is within."""
    if index.lower == float("inf") or index.is_biased:
        return ""
    interval = f" of index {float(index.lower):.2f} to {float(index.upper):.2f}"
    return f"{interval} (Hill's estimate: {float(index.estimate):.2f})"


def _bias_reason(index: TailIndex) -> str:
    interval = "leave no index"
    if index.lower < float("inf"):
        interval = f"give {float(index.lower):.2f} to {float(index.upper):.2f}"
    return (
        f"Hill's estimate, {float(index.estimate):.2f}, is biased: the draws farther out, "
        f"corrected for bias, {interval}."
    )


def _gamma_reason(pareto: GeneralisedPareto) -> str:
    gamma = f"{float(pareto.gamma):.2f} ± {float(pareto.gamma_standard_error):.2f}"
    least = float(pareto.lower)  # infinite if all of gamma's interval is below zero
    if least == float("inf"):
        end = "below 0, the value of an exponential tail: lighter than that, as far as seen."
    else:
        clearly = "" if pareto.upper < float("inf") else "not clearly "
        end = (
            f"{clearly}above 0, the value of an exponential tail; if such a law goes on, "
            f"an index below {least:.1f} is excluded."
        )
    return f"The generalised Pareto fit has gamma = {gamma}, {end}"


def _drift_reason(drift: HillDrift) -> str:
    return (
        f"The estimate moves with k: {float(drift.estimate):.2f} from all of them, "
        f"{float(drift.outer_estimate):.2f} from a quarter"
    )


def _decide(
    index: TailIndex,
    drift: HillDrift,
    pareto: GeneralisedPareto,
    fits: dict[str, TailFit],
    of_draws: str,
) -> tuple[str, str, tuple[str, ...]]:
    """The verdict, its sentence and the reasons."""
    power_law = f"a power law{_of_index(index)}"
    is_heavier = bool(pareto.upper < float("inf"))
    is_lighter = bool(pareto.lower == float("inf"))
    exponential_fits = bool(fits["exponential"].ratio <= 0.0)
    gamma_reason = _gamma_reason(pareto)
    against = _reasons_against(drift, fits, _REJECTED)
    if against and is_heavier:
        sentence = (
            f"Not a power law from this threshold on: {of_draws} have a tail heavier than "
            f"exponential, but the index of {float(index.estimate):.2f} that Hill's "
            "estimator gives does not describe it."
        )
        return "not a power law", sentence, (*against, gamma_reason)
    if is_lighter or (against and exponential_fits):
        sentence = (
            f"Not heavy-tailed, as far as {of_draws} tell: their tail is no heavier than "
            f"an exponential one, and the index of {float(index.estimate):.2f} that "
            "Hill's estimator gives means nothing."
        )
        return "not heavy-tailed", sentence, (*against, gamma_reason)
    if against:
        sentence = (
            f"Cannot tell: {of_draws} reject a power law from this threshold on, but may "
            "have a tail heavier than exponential."
        )
        return "cannot tell", sentence, (*against, gamma_reason)
    if drift.p_value < _REJECTED.p_value:
        sentence = f"Cannot tell: {of_draws} get heavier-tailed farther out."
        reason = f"{_drift_reason(drift)}; take a smaller k."
        return "cannot tell", sentence, (reason, gamma_reason)
    doubts = _reasons_against(drift, fits, _DOUBTFUL)
    if index.is_biased:
        doubts.append(_bias_reason(index))
    if doubts and is_heavier:
        sentence = (
            f"Cannot tell: {of_draws} do not reject {power_law}, but there are doubts."
        )
        return "cannot tell", sentence, (*doubts, gamma_reason)
    if is_heavier and not exponential_fits:
        sentence = (
            f"Heavy-tailed, as far as {of_draws} tell: they agree with {power_law}; if it "
            f"goes on, {_variance(index, pareto)}."
        )
        return "heavy-tailed", sentence, (gamma_reason,)
    sentence = (
        f"Cannot tell: {of_draws} agree with {power_law} and with an exponential tail."
    )
    return "cannot tell", sentence, (gamma_reason,)


def _reason_of_no_use(
    descending: np.ndarray,
    k: int,
    pareto: GeneralisedPareto,
    truncated: TruncatedPareto,
) -> str | None:
    """Why these draws cannot be assessed, if that is so."""
    if np.isnan(descending[0]):
        return "A draw is NaN."
    if np.isinf(descending[0]):
        return "A draw is infinite."
    if not descending[k] > 0.0:
        positive = np.count_nonzero(descending > 0.0)
        return (
            f"Only {positive} of the largest draws are positive in {descending.dtype}, and "
            f"{k + 1} are needed."
        )
    tied = int(truncated.num_tied)
    if tied > k:
        return (
            f"The {k + 1} largest draws are all equal, at {float(descending[0]):.6g}: were "
            "they clipped?"
        )
    if truncated.is_capped:
        return (
            f"{tied} of the largest draws are equal, at {float(descending[0]):.6g}: "
            "were they clipped? What lies beyond was not seen."
        )
    values, counts = np.unique(-descending[: k + 1], return_counts=True)
    most, value = int(np.max(counts)), -float(values[np.argmax(counts)])
    if most > k**0.5:  # by so many k differs, depending on the threshold
        return (
            f"{most} of the largest draws are equal, at {value:.6g}: they are rounded too "
            "coarsely."
        )
    if k < _FEWEST:
        return f"With fewer than {_FEWEST} of the largest draws no test has any power."
    if np.isnan(pareto.gamma):
        return (
            "No generalised Pareto law could be fitted: the draws are too far apart for "
            f"{descending.dtype}."
        )
    return None


@on_auto_axes
def assess_tail(
    samples: npt.ArrayLike, *, k: int | None = None, num_draws: int | None = None
) -> TailAssessment:
    """Says in plain words whether the draws are heavy-tailed, or that it cannot tell.

    It tests the k largest draws, each test at the level of 1 %:

    - a power law is rejected if Hill's estimate changes with k (`hill_drift`), or if an
      exponential or a lognormal tail fits better (`compare_fits`);
    - the tail is heavier than exponential if the shape of the generalised Pareto fit is
      above zero, and lighter if it is below.

    The verdict is

    - "heavy-tailed" if a power law is not rejected even at 10 %, Hill's estimate is
      within the interval that allows for its bias, and the tail is heavier than
      exponential;
    - "power law up to an end" if a power law without an end is rejected
      (`truncated_pareto`), one with an end is not even at 10 %, and it fits better than
      an exponential law with that end and than a lognormal law;
    - "not heavy-tailed" if the tail is lighter than exponential, or if a power law is
      rejected, the exponential fits better and the tail is not heavier than it;
    - "not a power law" if a power law is rejected from this threshold on and the tail
      is heavier than exponential, as a lognormal tail is;
    - "cannot tell" in all other cases; for k below 30; if the largest draws were cut
      off, as clipped norms are (`num_tied`); and if more than sqrt(k) of the k
      largest are equal, for example by rounding.

    The verdict covers only the range that was seen. Few draws from a mixture of
    Gaussians with different scales, or from a lognormal law, are often called
    heavy-tailed. A power law that begins farther out is not found. `docs/tail_index.md`
    has the rates. The tests assume that the draws are independent and from one law.

    Args:
      samples: floating array of shape (n,): norms, or absolute values, because only the
        largest count. The largest draws suffice if `num_draws` gives the total number.
      k: how many of the largest draws to use. Default: twice the 4/7th power of the
        number of draws, but at most a fifth of them.
      num_draws: the total number of draws, if the samples are only the largest of them;
        zeros are then padding. By default the samples are all draws.

    Returns:
      A `TailAssessment`.

    Raises:
      TypeError: if an argument has the wrong type, or the samples are traced: this
        function writes sentences, so it does not work under `jit`.
      ValueError: if the samples have several axes (`ravel()` joins them), k or
        `num_draws` is out of range, or there are fewer than ten draws.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = abs(hto.tails.gaussian().sample(jax.random.key(0), (10_000,)))
      >>> print(hto.tail_index.assess_tail(draws).verdict)
      not heavy-tailed

    References:
      Clauset, Shalizi, Newman, "Power-law distributions in empirical data", SIAM Review
      51 (2009), for the comparison of fits.
    """
    if isinstance(samples, jax.core.Tracer):
        raise type_error(_NAME, "samples", "an array, not traced by `jit`", samples)
    draws = check_draws(_NAME, samples, least=10)
    samples = as_samples(draws)
    if samples.ndim != 1:
        accepted = "of shape (n,), one sample; `ravel()` takes all axes together"
        raise value_error(_NAME, "samples", accepted, samples)
    num_negative = np.count_nonzero(np.asarray(samples) < 0.0)
    size = samples.size
    if num_draws is None:
        num_draws = size
    else:
        filled = np.count_nonzero(np.asarray(samples) != 0.0)
        of, least = "the samples that are not zero", max(10, filled)
        num_draws = check_count(_NAME, "num_draws", num_draws, least, least_is=of)
        size = max(least, 1 + k if is_integer(k) and k < size else 0)
    if k is None:
        k = _default_k(num_draws, size - 1)
    k = check_fewer_than(_NAME, "k", k, 5, size)
    # Only the draws that matter, so that few programs are compiled.
    num = max(k, 8) + 1
    top = largest_padded(samples, num)
    of_k, dtype = as_traced(k), samples.dtype
    z = normal_quantile(0.95, dtype)
    index, _ = hill_of_first(top, as_traced(num), of_k, z)
    drift = drift_of_first(top, as_traced(max(k, 8)))
    # This fit is invariant under shifts, and it shifts before JAX rounds the draws.
    descending = np.asarray(top)[:num]
    level = 1.0 - 2.0 * _REJECTED.p_value
    if is_cut(draws):
        pareto = generalised_pareto(largest_in_full(draws, num), k, confidence=level)
    else:
        of_level, one = normal_quantile(level, dtype), as_traced(1.0, dtype)
        pareto = pareto_of_first(top, of_k, of_level, one, 0.0)
    fits = fits_of_first(top, of_k, _ALTERNATIVES)
    truncated = fit_up_to_an_end(top, k)
    found = index, drift, pareto, fits, truncated
    # Sentences are written on the host, without programs for each comparison.
    index, drift, pareto, fits, truncated = jax.device_get(found)
    of_draws = f"the {k} largest of {num_draws} draws"
    reason = _reason_of_no_use(descending, k, pareto, truncated)
    is_enough = k - int(truncated.num_tied) >= _FEWEST
    ending = None
    if is_enough and (reason is None or bool(truncated.is_capped)):
        ending = up_to_an_end(truncated, fits, of_draws)
    if ending is not None:
        verdict, (sentence, reasons) = "power law up to an end", ending
    elif reason is None:
        verdict, sentence, reasons = _decide(index, drift, pareto, fits, of_draws)
    else:
        verdict, reasons = "cannot tell", (reason,)
        sentence = f"Cannot tell: nothing can be made of {of_draws}."
    if ending is None and reason is None and truncated.p_value < LEVEL_OF_END:
        reasons = (*reasons[:-1], end_reason(truncated), reasons[-1])
    if num_negative:
        reason = (
            f"{num_negative} draws are negative, and count as small: take absolute values "
            "if both sides matter."
        )
        reasons = (*reasons, reason)
    return TailAssessment(verdict, sentence, reasons, k, *found)
