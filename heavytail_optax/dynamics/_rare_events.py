"""Exit rates at learning rates that no direct simulation reaches."""

import math
import statistics
import warnings
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._typing import Key
from heavytail_optax._validation import (
    check_choice,
    check_count,
    check_positive,
    check_scalar,
    value_error,
)
from heavytail_optax.dynamics._landscape import Landscape, check_field
from heavytail_optax.dynamics._rare_event_paths import Sums, sum_over_paths
from heavytail_optax.dynamics._rare_event_plan import NAME, Plan, new_plan
from heavytail_optax.dynamics._theory import check_theory
from heavytail_optax.tails._pareto import SymmetricPareto
from heavytail_optax.tails._tail import Tail

_FEWEST_EFFECTIVE = 100.0
_LARGEST_SHARE = 0.1


class RareEventSampling(NamedTuple):
    """How a `RareExitRate` was estimated, and how far to trust it.

    Attributes:
      num_samples: paths.
      effective_samples: `(sum w)^2 / sum w^2` of the weighted scores.
      largest_share: of the sum of weighted scores, that of a single path.
      is_skewed: whether fewer than 100 samples are effective or a single one has more
        than a tenth of the sum; then even the standard error is not to be trusted.
      method: `"lumped"` or `"exact"`.
    """

    num_samples: int
    effective_samples: float
    largest_share: float
    is_skewed: bool
    method: str


class RareExitRate(NamedTuple):
    """Result of `rare_exit_rate`.

    Attributes:
      rate: theta, exits per step of a chain that has been in the field for long.
      standard_error: of `rate`.
      lower: end of the confidence interval of `rate`, at least 0.
      upper: its other end.
      mean_exit_time: in steps, of a chain that starts at the minimum.
      mean_exit_time_error: its standard error.
      destinations: exits per step by where they land: outside on the left, the K
        fields, outside on the right. Their sum is `rate`. shape=(K + 2,).
      destination_errors: standard errors of `destinations`. shape=(K + 2,).
      sampling: the `RareEventSampling`: how many samples, and whether a few carry all.
    """

    rate: float
    standard_error: float
    lower: float
    upper: float
    mean_exit_time: float
    mean_exit_time_error: float
    destinations: np.ndarray
    destination_errors: np.ndarray
    sampling: RareEventSampling


def _moments(plan: Plan, sums: Sums) -> tuple[np.ndarray, np.ndarray]:
    """Means under the mixture, and their covariances.

    The covariance is that within the components, which have fixed shares of the paths.
    """
    shares = np.diff(np.asarray(plan.component_shares), prepend=0.0)
    number = np.maximum(sums.number, 1.0)
    means = sums.values / number[:, None]
    covariances = sums.products / number[:, None, None]
    covariances = covariances - means[:, :, None] * means[:, None, :]
    return shares @ means, np.tensordot(shares**2 / number, covariances, axes=1)


def _result(
    plan: Plan,
    sums: Sums,
    landscape: Landscape,
    field: int,
    confidence: float,
    method: str,
) -> RareExitRate:
    """Estimates, with errors by the delta method."""
    means, covariance = _moments(plan, sums)
    scores, (lost, early, early_share) = means[:-3], means[-3:]
    window = (plan.last_step - plan.burn_in_steps) * (1.0 - lost)
    rates = scores / window
    slopes = np.zeros((len(scores), len(means)))
    np.fill_diagonal(slopes, 1.0 / window)
    slopes[:, -3] = rates / (1.0 - lost)
    errors = np.sqrt(np.maximum(np.diag(slopes @ covariance @ slopes.T), 0.0))
    rate, slope = float(rates.sum()), slopes.sum(axis=0)
    error = math.sqrt(max(slope @ covariance @ slope, 0.0))
    mean, mean_error = math.inf, math.inf
    if rate > 0.0:
        burn_in = plan.burn_in_steps
        mean = float(burn_in * (1.0 - early_share) + (1.0 - early) / rate)
        slope = -(1.0 - early) / rate**2 * slope
        slope[-2], slope[-1] = -1.0 / rate, -burn_in
        mean_error = math.sqrt(max(slope @ covariance @ slope, 0.0))
    # Scores are by end, nearest first; those of a filled-up end are 0.
    ends = np.arange(len(plan.left_ends))
    columns = np.concatenate([field - ends, field + 2 + ends])
    is_real = (columns >= 0) & (columns < landscape.num_fields + 2)
    destinations = np.zeros(landscape.num_fields + 2)
    destination_errors = np.zeros(landscape.num_fields + 2)
    destinations[columns[is_real]] = rates[is_real]
    destination_errors[columns[is_real]] = errors[is_real]
    total = float(sums.values[:, :-3].sum())
    squared = float(sums.products[:, :-3, :-3].sum())
    effective = total**2 / squared if total > 0.0 else 0.0
    largest = float(sums.largest_score) / total if total > 0.0 else 1.0
    half = statistics.NormalDist().inv_cdf(0.5 + 0.5 * confidence) * error
    return RareExitRate(
        rate=rate,
        standard_error=error,
        lower=max(rate - half, 0.0),
        upper=rate + half,
        mean_exit_time=mean,
        mean_exit_time_error=mean_error,
        destinations=destinations,
        destination_errors=destination_errors,
        sampling=RareEventSampling(
            num_samples=int(sums.number.sum()),
            effective_samples=effective,
            largest_share=largest,
            is_skewed=effective < _FEWEST_EFFECTIVE or largest > _LARGEST_SHARE,
            method=method,
        ),
    )


def rare_exit_rate(
    landscape: Landscape,
    field: int,
    *,
    key: Key,
    tail: Tail,
    scale: float,
    learning_rate: float,
    max_norm: float,
    num_samples: int = 20_000,
    method: Literal["auto", "lumped", "exact"] = "auto",
    jumps_per_relaxation: float = 150.0,
    burn_in: float = 1.5,
    window: float = 2.0,
    confidence: float = 0.95,
    samples_at_once: int = 1024,
) -> RareExitRate:
    r"""Rate at which truncated heavy-tailed SGD leaves a field, however small eta is.

    The chain is that of `exit_rates`. The rate theta of a chain that has been in the
    field for long (its quasi-stationary law) is estimated over a window of steps,

    .. math::
      \theta = \frac{P(n_1 < \tau \le n)}{E \sum_{j=n_1+1}^{n} 1\{\tau \ge j\}},

    by importance sampling whose relative error does not grow as eta falls:

    - The number of big jumps, larger than a share of the slack, is drawn from a mixture
      of its own law and of that law given at least `l* - 1`, or `l*`, of them; the
      likelihood ratio weights each path. Each component has a fixed share of the
      paths, which takes the choice between them out of the variance.
      Most paths with forced jumps have a run of `l* - 1` of them on a way out: to one
      side, each above the slack or at the bound, most of them shortly after one another.
    - The last jump is not drawn for scoring: at every individual jump the path scores
      the probability that it leaves.
    - Jumps below a size, chosen so that `jumps_per_relaxation` larger ones come in the
      relaxation time of the field, are lumped into the flow and a Gaussian. So the cost
      does not grow with `1 / eta`. The method `"exact"` lumps nothing and makes
      `(burn_in + window) t / eta` steps a path: unbiased but for the burn-in.

    All in float64. For a relative error of 1 % expect 3e3 paths for `l* = 1`, 5e4 for
    `l* = 2` and 3e5 for `l* = 3`, up to three times that on landscapes other than a
    quadratic, and more for `l* = 1` where exits are not rare. The weights are skewed:
    read `sampling.is_skewed`, on which there is a warning, too.

    Args:
      landscape: on the line.
      field: the field that the chain starts in, at its minimum.
      key: an integer seed, a typed key or a legacy key.
      tail: `tails.symmetric_pareto(alpha)` with alpha above 1; the estimator needs its
        law below the tail, too.
      scale: the noise is this positive number times a draw of the tail.
      learning_rate: eta, positive and below `2 / f''` at the minimum.
      max_norm: b, positive; infinite for no truncation.
      num_samples: paths, at least 10; rounded up to whole batches.
      method: `"lumped"`, `"exact"`, or `"auto"`: lumped wherever there are small steps
        to lump.
      jumps_per_relaxation: how many jumps in a relaxation time are drawn one by one.
        The fewer, the faster and the more biased where exits are not very rare: a rate
        2 % too low at 100 and eta = 1e-3, scale 1, alpha 1.5; none as eta -> 0.
      burn_in: in relaxation times; has to exceed the waits of a typical way out.
      window: in relaxation times.
      confidence: confidence level of the interval, between 0 and 1.
      samples_at_once: size of a batch.

    Returns:
      A `RareExitRate`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if it is out of its range, the field has no end, the learning rate is
        above the stability limit, or exits are not rare.

    Example:
      >>> import heavytail_optax as hto
      >>> well = hto.dynamics.quadratic(1.0, 0.3, 0.4)
      >>> noise = dict(tail=hto.tails.symmetric_pareto(1.2), scale=0.1, max_norm=0.5)
      >>> result = hto.dynamics.rare_exit_rate(
      ...     well, 0, key=0, learning_rate=1e-9, num_samples=2048, **noise
      ... )
      >>> theory = hto.dynamics.exit_rates(well, **noise).mean_exit_times(1e-9)[0]
      >>> print(f"{result.mean_exit_time / theory:.1f}")
      1.0

    References:
      The mixture on the number of big jumps: Chen, Blanchet, Rhee, Zwart, "Efficient
      rare-event simulation for multiple jump events in regularly varying random walks
      and compound Poisson processes", Math. OR 44 (2019).
    """
    check_theory(NAME, landscape, tail, scale, max_norm)
    if not isinstance(tail, SymmetricPareto):
        raise value_error(NAME, "tail", "a `tails.symmetric_pareto`", tail)
    field = check_field(NAME, landscape, field)
    check_key(NAME, key)
    check_positive(NAME, "learning_rate", learning_rate)
    limit = 2.0 / float(landscape.curvature(field))
    if not learning_rate < limit:
        accepted = f"below {limit:.4g}, above which descent diverges from the minimum"
        raise value_error(NAME, "learning_rate", accepted, learning_rate)
    if not np.isfinite(landscape.widths[field]):
        raise value_error(NAME, "field", "a field with an end", field)
    num_samples = check_count(NAME, "num_samples", num_samples, least=10)
    check_choice(NAME, "method", method, ("auto", "lumped", "exact"))
    check_positive(NAME, "jumps_per_relaxation", jumps_per_relaxation)
    check_positive(NAME, "burn_in", burn_in)
    check_positive(NAME, "window", window)
    check_scalar(
        NAME,
        "confidence",
        confidence,
        accepted="a number between 0 and 1",
        is_valid=lambda value: 0.0 < value < 1.0,
    )
    at_once = min(check_count(NAME, "samples_at_once", samples_at_once), num_samples)
    plan, method = new_plan(
        landscape=landscape,
        field=field,
        alpha=float(tail.alpha),
        scale=float(scale),
        eta=float(learning_rate),
        bound=float(max_norm),
        method=method,
        num_individual=float(jumps_per_relaxation),
        burn_in=float(burn_in),
        window=float(window),
    )
    num_batches = -(-num_samples // at_once)
    words = jax.random.bits(tagged_key(key, NAME), (2,), jnp.uint32)
    sums = sum_over_paths(landscape.gradient, plan, words, num_batches, at_once)
    result = _result(plan, sums, landscape, field, confidence, method)
    sampling = result.sampling
    if sampling.is_skewed:
        warnings.warn(
            f"The weights of `{NAME}` are skewed: {sampling.effective_samples:.0f} of "
            f"{sampling.num_samples} samples are effective, and the largest has "
            f"{sampling.largest_share:.0%} of the sum. Take more samples.",
            stacklevel=2,
        )
    return result
