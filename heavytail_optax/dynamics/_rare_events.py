"""Exit rates at learning rates that are too small for direct simulation."""

import math
import statistics
import warnings
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._result_text import short_repr
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
    """How a `RareExitRate` was estimated, and how reliable it is.

    Attributes:
      num_samples: number of paths.
      effective_samples: `(sum w)^2 / sum w^2` of the weighted scores.
      largest_share: the largest share of a single path in the sum of weighted scores.
      is_skewed: whether fewer than 100 samples are effective, or a single one has more
        than a tenth of the sum. Then even the standard error is not reliable.
      method: `"lumped"` or `"exact"`.
    """

    num_samples: int
    effective_samples: float
    largest_share: float
    is_skewed: bool
    method: str

    __repr__ = short_repr


class RareExitRate(NamedTuple):
    """Result of `rare_exit_rate`.

    Attributes:
      rate: theta, exits per step of a chain that has been in the field for a long time.
      standard_error: that of `rate`; infinite if no path has left.
      lower: lower end of the confidence interval of `rate`, at least 0.
      upper: upper end of that interval.
      mean_exit_time: mean exit time of a chain that starts at the minimum, in steps.
      mean_exit_time_error: its standard error.
      destinations: exits per step for each place where they land: outside on the left,
        the K fields, outside on the right. Their sum is `rate`. shape=(K + 2,).
      destination_errors: standard errors of `destinations`; infinite for a place within
        reach where no path has landed. shape=(K + 2,).
      sampling: the `RareEventSampling`: the number of samples, and whether a few of
        them dominate.
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

    __repr__ = short_repr


def _moments(plan: Plan, sums: Sums) -> tuple[np.ndarray, np.ndarray]:
    """Means under the mixture, and their covariances.

    The covariance is that within the components, because their shares of the paths are
    fixed.
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
    # Paths that have not left say nothing about how rarely they do. Padded ends and those
    # at infinity are out of reach.
    is_in_reach = np.isfinite(np.concatenate([plan.left_ends, plan.right_ends]))
    errors = np.where((rates > 0.0) | ~is_in_reach, errors, math.inf)
    error, mean, mean_error = math.inf, math.inf, math.inf
    if rate > 0.0:
        error = math.sqrt(max(slope @ covariance @ slope, 0.0))
        burn_in = plan.burn_in_steps
        mean = float(burn_in * (1.0 - early_share) + (1.0 - early) / rate)
        slope = -(1.0 - early) / rate**2 * slope
        slope[-2], slope[-1] = -1.0 / rate, -burn_in
        mean_error = math.sqrt(max(slope @ covariance @ slope, 0.0))
    # Scores are per end, nearest first; those of a padded end are 0.
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
    r"""The rate at which truncated heavy-tailed SGD leaves a field, for any small eta.

    The chain is that of `exit_rates`. The function estimates the rate theta of a chain
    that has been in the field for a long time (its quasi-stationary law), over a window
    of steps,

    .. math::
      \theta = \frac{P(n_1 < \tau \le n)}{E \sum_{j=n_1+1}^{n} 1\{\tau \ge j\}},

    by importance sampling. Its relative error does not grow as eta falls:

    - A big jump is larger than a share of the slack. The number of big jumps is drawn
      from a mixture of its own law and of that law given at least `l* - 1`, or `l*`, of
      them; the likelihood ratio weights each path. Each component has a fixed share of
      the paths, so the choice between them adds no variance. Most paths with forced
      jumps have a run of `l* - 1` of them on a way out: to one side, each above the
      slack or at the bound, and most of them shortly after one another.
    - The last jump is not drawn to be scored. Instead, at every individual jump the
      path scores the probability that this jump leaves.
    - Jumps below a certain size are lumped into the flow and a Gaussian. The size is
      such that `jumps_per_relaxation` larger jumps occur in the relaxation time of the
      field. So the cost does not grow with `1 / eta`. The method `"exact"` lumps
      nothing and makes `(burn_in + window) t / eta` steps per path; it is unbiased
      except for the burn-in.

    All computations are in float64. A relative error of 1 % takes about 3e3 paths for
    `l* = 1`, 5e4 for `l* = 2` and 3e5 for `l* = 3`. On landscapes other than a
    quadratic it takes up to three times as many, and for `l* = 1` more if exits are not
    rare. The weights are skewed: check `sampling.is_skewed`. If it is true, there is
    also a warning.

    Args:
      landscape: on the line.
      field: the field that the chain starts in, at its minimum.
      key: an integer seed, a typed key or a legacy key.
      tail: `tails.symmetric_pareto(alpha)` with alpha above 1. No other tail is
        accepted, because the estimator also needs the law of the small draws.
      scale: the noise is this positive number times a draw of the tail.
      learning_rate: eta, positive and below `2 / f''` at the minimum.
      max_norm: b, positive; infinite for no truncation.
      num_samples: number of paths, at least 10; rounded up to whole batches.
      method: `"lumped"`, `"exact"`, or `"auto"`: lumped if there are small steps to
        lump.
      jumps_per_relaxation: how many jumps in a relaxation time are drawn one by one.
        Fewer jumps are faster, but more biased if exits are not very rare: with 100,
        and eta = 1e-3, scale 1 and alpha 1.5, the rate is 2 % too low. The bias
        vanishes as eta -> 0.
      burn_in: in relaxation times. It must exceed the waiting times of a typical way
        out.
      window: in relaxation times.
      confidence: confidence level of the interval, between 0 and 1.
      samples_at_once: number of paths in a batch.

    Returns:
      A `RareExitRate`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of its range, the field has no end, the learning
        rate is above the stability limit, or exits are not rare.

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
            f"The importance weights are skewed: {sampling.effective_samples:.0f} of "
            f"{sampling.num_samples} samples are effective, and the largest weight is "
            f"{sampling.largest_share:.0%} of their sum. Take more samples.",
            stacklevel=2,
        )
    return result
