"""Heavy-tailed or not, in plain words, and why."""

from typing import Any, NamedTuple

from heavytail_optax._validation import check_count
from heavytail_optax.tail_index._arguments import check_samples
from heavytail_optax.tail_index._comparison import TailFit, compare_fits
from heavytail_optax.tail_index._generalised_pareto import (
    GeneralisedPareto,
    generalised_pareto,
)
from heavytail_optax.tail_index._goodness import HillDrift, hill_drift
from heavytail_optax.tail_index._hill import hill
from heavytail_optax.tail_index._order_statistics import largest
from heavytail_optax.tail_index._result import TailIndex

_NAME = "assess_tail"
_FEWEST = 30  # of the largest draws; with fewer, no test has any power


class _Level(NamedTuple):
    """A level of significance, and what exceeds it."""

    p_value: float
    chi_square: float  # of half a chi-square, the other half at the boundary
    normal: float


_REJECTED, _DOUBTFUL = _Level(0.01, 5.41, 2.33), _Level(0.1, 1.64, 1.28)


class TailAssessment(NamedTuple):
    """What the largest draws say about the tail, as Python values.

    Attributes:
      verdict: "heavy-tailed", "not heavy-tailed", "not a power law" or "cannot tell".
      sentence: the verdict in a sentence, with numbers.
      reasons: what speaks for or against, each a sentence.
      k: how many of the largest draws were used.
      index: Hill's estimate, with the interval that allows for its bias; of use only if
        the verdict is "heavy-tailed".
      drift: how it moves with k.
      pareto: the generalised Pareto fit, whose interval is of 98 %.
      fits: the comparison of fits.
    """

    verdict: str
    sentence: str
    reasons: tuple[str, ...]
    k: int
    index: TailIndex
    drift: HillDrift
    pareto: GeneralisedPareto
    fits: dict[str, TailFit]


def _default_k(num_draws: int, most: int) -> int:
    """Twice the 4/7th power: the order of the best k for Student's law of index 3."""
    return max(5, min(round(2.0 * num_draws ** (4 / 7)), num_draws // 5, most))


def _reasons_against(
    drift: HillDrift, fits: dict[str, TailFit], level: _Level
) -> list[str]:
    """What speaks against a power law from this threshold on."""
    reasons = []
    if drift.p_value < level.p_value and drift.z > 0:
        reasons.append(
            f"The estimate moves with k: {float(drift.estimate):.2f} from all of them, "
            f"{float(drift.outer_estimate):.2f} from a quarter."
        )
    exponential, lognormal = fits["exponential"], fits["lognormal"]
    if exponential.normalised_ratio < -level.normal:
        reasons.append(
            "An exponential tail fits better (normalised log-likelihood ratio "
            f"{float(exponential.normalised_ratio):.1f})."
        )
    if -2.0 * lognormal.ratio > level.chi_square:
        reasons.append(
            "A lognormal tail fits better (log-likelihood ratio "
            f"{float(lognormal.ratio):.1f})."
        )
    return reasons


def _variance(index: TailIndex) -> str:
    if index.upper < 2.0:
        return "its variance is infinite"
    if index.lower > 2.0:
        return "its variance is finite"
    return "whether its variance is finite cannot be told"


def _describe(index: TailIndex) -> str:
    """The estimate and its interval, which may leave it out."""
    estimate, lower, upper = (
        float(x) for x in (index.estimate, index.lower, index.upper)
    )
    if lower == float("inf"):
        return f"{estimate:.2f} (no index fits)"
    biased = "" if lower <= estimate <= upper else "biased; "
    return f"{estimate:.2f} ({biased}{lower:.2f} to {upper:.2f})"


def _decide(
    index: TailIndex,
    drift: HillDrift,
    pareto: GeneralisedPareto,
    fits: dict[str, TailFit],
    k: int,
    num_draws: int,
) -> tuple[str, str, tuple[str, ...]]:
    """The verdict, its sentence and the reasons."""
    of_draws = f"the {k} largest of {num_draws} draws"
    if k < _FEWEST:
        reason = (
            f"With fewer than {_FEWEST} of the largest draws no test has any power."
        )
        return "cannot tell", f"Cannot tell: {of_draws} are too few.", (reason,)
    interval = _describe(index)
    is_heavier = bool(pareto.upper < float("inf"))
    gamma = f"{float(pareto.gamma):.2f} +- {float(pareto.gamma_standard_error):.2f}"
    least = float(pareto.lower)  # infinite if all of gamma's interval is below zero
    gamma_reason = f"The generalised Pareto fit has gamma = {gamma}, " + (
        "above 0, the value of an exponential tail."
        if is_heavier
        else f"not clearly above 0, the value of an exponential tail; an index below "
        f"{least:.1f} is excluded."
        if least < float("inf")
        else "below 0, the value of an exponential tail: the draws are bounded."
    )
    against = _reasons_against(drift, fits, _REJECTED)
    if against and is_heavier:
        sentence = (
            f"Not a power law: {of_draws} have a tail heavier than exponential, but an "
            f"index of {interval} does not describe it."
        )
        return "not a power law", sentence, (*against, gamma_reason)
    if against or least == float("inf"):
        sentence = (
            f"Not heavy-tailed: {of_draws} are as an exponential or a lighter tail has "
            f"them; the index of {interval} that Hill's estimator gives means nothing."
        )
        return "not heavy-tailed", sentence, (*against, gamma_reason)
    if drift.p_value < _REJECTED.p_value:
        reason = (
            f"The estimate moves with k: {float(drift.estimate):.2f} from all of them, "
            f"{float(drift.outer_estimate):.2f} from a quarter; take a smaller k."
        )
        sentence = f"Cannot tell: {of_draws} get heavier-tailed farther out."
        return "cannot tell", sentence, (reason, gamma_reason)
    doubts = _reasons_against(drift, fits, _DOUBTFUL)
    if doubts and is_heavier:
        sentence = (
            f"Cannot tell: {of_draws} do not reject a power law of index {interval}, but "
            "there are doubts."
        )
        return "cannot tell", sentence, (*doubts, gamma_reason)
    if is_heavier and fits["exponential"].ratio > 0:
        sentence = (
            f"Heavy-tailed: a power law of index {interval} describes {of_draws}; if it "
            f"goes on, {_variance(index)}."
        )
        return "heavy-tailed", sentence, (gamma_reason,)
    sentence = (
        f"Cannot tell: {of_draws} agree with a power law of index {interval} and with "
        "an exponential tail."
    )
    return "cannot tell", sentence, (gamma_reason,)


def assess_tail(
    samples: Any, *, k: int | None = None, num_draws: int | None = None
) -> TailAssessment:
    """Says in plain words whether the draws are heavy-tailed, or that one cannot tell.

    At the threshold of the k largest draws, with each test at the level of 1 %:

    - a power law is rejected if Hill's estimate moves with k (`hill_drift`), or if an
      exponential or a lognormal tail fits better (`compare_fits`);
    - the tail is heavier than exponential if the shape of the generalised Pareto fit is
      above zero, and lighter if it is below.

    The verdict is "heavy-tailed" if a power law is not rejected, not even at 10 %, and
    the tail is heavier than exponential; "not heavy-tailed" if it is rejected and the
    tail not heavier, or the tail is lighter; "not a power law" if it is rejected and the
    tail is heavier, as a lognormal one is; "cannot tell" in all other cases, and for k
    below 30.

    The tests take the draws for independent and of one law. Not for use under `jit`.

    Args:
      samples: floating array, all of it one sample: norms, or absolute values. The
        largest draws suffice, such as a row of `tail_largest` of the tracked state.
      k: how many of the largest draws to use; by default twice the 4/7th power of the
        number of draws, a fifth of them at most.
      num_draws: of how many draws these are the largest; by default all are given.

    Returns:
      A `TailAssessment`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if k or `num_draws` is out of range, or there are fewer than ten draws.

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
    samples = check_samples(_NAME, samples, None, least=10)
    size = samples.shape[-1]
    if num_draws is None:
        num_draws = size
    num_draws = check_count(_NAME, "num_draws", num_draws, size)
    if k is None:
        k = _default_k(num_draws, size - 1)
    k = check_count(_NAME, "k", k, 5, size - 1)
    # All that counts, so that what is compiled depends on k alone.
    samples = largest(samples, max(k, 8) + 1)
    index = hill(samples, k)
    drift = hill_drift(samples, max(k, 8))
    pareto = generalised_pareto(samples, k, confidence=1.0 - 2.0 * _REJECTED.p_value)
    fits = compare_fits(samples, k, alternatives=("exponential", "lognormal"))
    verdict = _decide(index, drift, pareto, fits, k, num_draws)
    return TailAssessment(*verdict, k, index, drift, pareto, fits)
