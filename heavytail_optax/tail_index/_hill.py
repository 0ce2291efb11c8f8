"""Hill's estimator, for one k and for every k."""

import functools
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._result_text import short_repr
from heavytail_optax._validation import check_choice
from heavytail_optax.tail_index._arguments import (
    check_confidence,
    check_fewer_than,
    check_inflation,
    check_samples,
    check_traced_integer,
)
from heavytail_optax.tail_index._extended_pareto import (
    corrected_gamma,
    equivalent_count,
)
from heavytail_optax.tail_index._log_excesses import (
    LogExcesses,
    few_or_all,
    hill_gamma,
    log_excesses,
    log_excesses_of_first,
)
from heavytail_optax.tail_index._order_statistics import largest
from heavytail_optax.tail_index._quick_programs import quick_jit
from heavytail_optax.tail_index._result import (
    TailIndex,
    from_mean_of_exponentials,
    normal_quantile,
)
from heavytail_optax.tail_index._ties import (
    equals_of,
    parting_no_ties,
    ties_of_first,
)


class HillPath(NamedTuple):
    """Hill's estimate for each k; the last axis is that of k.

    Attributes:
      k: 1, 2, ..., `max_k`. shape=(max_k,), dtype=int32.
      estimate: alpha for each k. shape=(..., max_k).
      standard_error: `alpha / sqrt(k)`, the same shape; infinite if the largest draws
        were cut off, as in a `TailIndex`.
      threshold: the next draw after the k largest, the same shape.
    """

    k: jax.Array
    estimate: jax.Array
    standard_error: jax.Array
    threshold: jax.Array

    __repr__ = short_repr


INTERVALS = ("corrected", "uncorrected")
Interval: TypeAlias = Literal["corrected", "uncorrected"]
_FEWEST_FOR_INTERVAL = 10


def _hill_with_interval(
    excesses: LogExcesses,
    k: jax.Array,
    z: jax.Array,
    of_interval: tuple[LogExcesses, jax.Array] | None,
    inflation: jax.Array | float = 1.0,
) -> TailIndex:
    """Hill's estimate, with an interval around the corrected one.

    Args:
      excesses: log-excesses of the k largest draws.
      k: how many; int32.
      z: from `normal_quantile`.
      of_interval: excesses for the interval, and the number of their draws; None for
        the interval of an exact power law.
      inflation: by how much the draws' dependence multiplies the variance.
    """
    count = jnp.asarray(k, excesses.values.dtype)
    gamma = hill_gamma(excesses, count)
    centre, ties = None, excesses.ties
    if of_interval is not None:
        others, other_k = of_interval
        # Draws that are all equal give no interval.
        is_without = (others.ties.count > other_k) & (ties.count <= k)
        is_without &= excesses.threshold > 0.0
        ties = ties._replace(is_cap=ties.is_cap | is_without)
        other_count = jnp.asarray(other_k, others.values.dtype)
        middle = corrected_gamma(hill_gamma(others, other_count), others, other_count)
        centre = middle, equivalent_count(other_count) / inflation
    return from_mean_of_exponentials(
        gamma, count / inflation, k, excesses.threshold, ties, z, centre
    )


# Compiled once for all calls, like the next; an eager loop would be compiled again in
# each call.
@quick_jit
def hill_of_first(
    descending: jax.Array, num: jax.Array, k: jax.Array, z: jax.Array
) -> tuple[TailIndex, jax.Array]:
    """Hill's estimate of the first k, and the smaller k that is used for its interval.

    This is for a k at which bias and random error are of the same size. An interval
    from these k draws would cover less often than its level. The smaller k does not
    split equal draws: all but one of the draws that equal the threshold are among them.

    Args:
      descending: draws in descending order, shape (..., m).
      num: how many of them count; int32, at most m.
      k: int32, of the shape of the batch, below `num`.
      z: from `normal_quantile`.
    """
    fewer = jnp.round(k**0.75).astype(k.dtype)
    fewer = jnp.maximum(fewer, jnp.minimum(k, _FEWEST_FOR_INTERVAL))
    first, last = equals_of(descending, fewer, jnp.broadcast_to(num, k.shape))
    interval_k = parting_no_ties(fewer, first, last, True, 1)
    interval_k = jnp.minimum(interval_k, k)
    both = jnp.stack([k, interval_k])
    twice = jnp.broadcast_to(descending, (2, *descending.shape))
    excesses = log_excesses_of_first(twice, both)
    one, of_interval = (jax.tree.map(lambda x: x[i], excesses) for i in (0, 1))  # noqa: B023
    return _hill_with_interval(one, k, z, (of_interval, interval_k)), interval_k


@functools.partial(quick_jit, static_argnames=("few", "interval"))
def _hill(
    samples: jax.Array,
    k: jax.Array,
    z: jax.Array,
    few: int | None,
    interval: str,
    inflation: jax.Array,
) -> TailIndex:
    excesses = log_excesses(samples, k, few)
    of_interval = (excesses, k) if interval == "corrected" else None
    return _hill_with_interval(excesses, k, z, of_interval, inflation)


@on_auto_axes
def hill(
    samples: npt.ArrayLike,
    k: int | jax.Array,
    *,
    interval: Interval = "corrected",
    variance_inflation: float | jax.Array = 1.0,
    axis: int | None = -1,
    confidence: float = 0.95,
) -> TailIndex:
    r"""Hill's estimator: the maximum likelihood of a Pareto tail.

    .. math::
      \frac1{\hat\alpha} = \hat\gamma
        = \frac1k \sum_{i=1}^{k} \log \frac{X_{(i)}}{X_{(k+1)}},

    where `X_(1) >= X_(2) >= ...` are the draws in descending order. For two-sided
    draws, pass their absolute values.

    The standard error is `alpha / sqrt(k)`. It holds for a tail that is exactly a power
    law from the threshold on. Few tails are, and for the others the estimate is biased.
    So the default interval is "corrected": that of `extended_pareto` with rho = -1 at
    the same k, which estimates the bias from the draws and is twice as wide. It lies
    around that estimator's estimate, `corrected_estimate`. If it leaves Hill's estimate
    out (`is_biased`), k is too large or the tail is not a power law. An interval
    (inf, inf) means that no power law fits. It agrees with the theory from ten draws
    on. The "uncorrected" interval is exact to 1e-3 for an exact power law. For
    other laws it covers the index too rarely: with a twentieth of 10,000 draws of
    Student's law of index 3, in 20 % of all samples instead of 95 %.

    The estimator assumes the power law that it measures. For a light-tailed law it also
    returns a number, which grows as k falls (for example 4.7 for a Gaussian). Check
    `hill_drift` and `compare_fits` before you trust it. It is not invariant under
    shifts.

    The draws are not sorted, so ten million of them take a fraction of a second for
    every k, and k may be traced. If k is a Python integer much smaller than n, they
    take a hundredth of a second. The estimate is differentiable with respect to the
    samples.

    Args:
      samples: floating array. Only the k + 1 largest along the axis matter. They must
        be positive, or the result is NaN.
      k: how many of the largest draws to use, from 1 to n - 1: an integer, or an
        integer array of shape () or that of the batch. In an array, a value out of
        range gives NaN.
      interval: "corrected" or "uncorrected" for bias.
      variance_inflation: by how much the draws' dependence multiplies the variance, at
        least 1, as `extremal_index` finds it: a number, or an array of the shape of the
        batch. Standard error and interval are that of so many times fewer draws.
      axis: the axis of the draws; None takes all axes together.
      confidence: confidence level of the interval, between 0 and 1.

    Returns:
      A `TailIndex`; each field has the shape of the samples without the axis. One
      infinite draw makes the index zero. If the largest draws were cut off, as clipped
      norms are, the interval is from zero to infinity.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if k, the interval, the axis or the confidence is out of range, or
        there are fewer than two draws.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (10_000,))
      >>> result = hto.tail_index.hill(draws, 1000)
      >>> bool(result.lower < 1.5 < result.upper), bool(result.is_biased)
      (True, False)

    References:
      Hill, "A simple general approach to inference about the tail of a distribution",
      Annals of Statistics 3 (1975). An interval around the corrected estimate beside
      the usual one: Calonico, Cattaneo, Titiunik, "Robust nonparametric confidence
      intervals for regression-discontinuity designs", Econometrica 82 (2014).
    """
    samples = check_samples("hill", samples, axis)
    size = samples.shape[-1]
    of_user, k = k, check_traced_integer("hill", "k", k, size, samples.shape[:-1])
    check_choice("hill", "interval", interval, INTERVALS)
    check_confidence("hill", confidence)
    inflation = check_inflation("hill", variance_inflation, samples)
    samples, few = few_or_all(samples, of_user)
    z = normal_quantile(confidence, samples.dtype)
    return _hill(samples, k, z, few, interval, inflation)


def log_spacings(descending: jax.Array) -> jax.Array:
    """The scaled log-spacings `j (log X_(j) - log X_(j+1))`, j = 1, 2, ...

    Under an exact power law they are independent exponentials with mean gamma, and
    their running mean is Hill's estimate of gamma.

    Args:
      descending: the largest draws in descending order, shape (..., k + 1).

    Returns:
      Shape (..., k); NaN if a draw is not positive.
    """
    logs = jnp.log(jnp.where(descending > 0.0, descending, jnp.nan))
    ranks = jnp.arange(1, descending.shape[-1], dtype=descending.dtype)
    ranks = ranks.reshape((1,) * (descending.ndim - 1) + (-1,))
    return ranks * (logs[..., :-1] - logs[..., 1:])


# One program per shape: compiling the operations one by one takes far longer.
@functools.partial(jax.jit, static_argnames="max_k")
def _path(samples: jax.Array, max_k: int) -> HillPath:
    descending = largest(samples, max_k + 1)
    ranks = jnp.arange(1, max_k + 1, dtype=samples.dtype)
    ranks = ranks.reshape((1,) * (samples.ndim - 1) + (-1,))
    alpha = ranks / jnp.cumsum(log_spacings(descending), axis=-1)
    ties = ties_of_first(descending, max_k + 1)
    count, is_cap = ties.count[..., None], ties.is_cap[..., None]
    alpha = jnp.where(ranks < count, jnp.nan, alpha)
    return HillPath(
        k=jnp.arange(1, max_k + 1, dtype=jnp.int32),
        estimate=alpha,
        standard_error=alpha / jnp.sqrt(ranks) + jnp.where(is_cap, jnp.inf, 0.0),
        threshold=descending[..., 1:],
    )


@on_auto_axes
def hill_path(samples: npt.ArrayLike, max_k: int, *, axis: int | None = -1) -> HillPath:
    """Hill's estimate for every k up to `max_k`: the numbers behind a Hill plot.

    Args:
      samples: floating array; the `max_k + 1` largest along the axis must be positive,
        or the estimates from there on are NaN. One infinite draw makes all of them
        zero.
      max_k: the largest k, from 1 to n - 1.
      axis: the axis of the draws; None takes all axes together.

    Returns:
      A `HillPath`; the last axis of its fields is that of k. NaN for each k for which
      the k + 1 largest draws are equal.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if `max_k` or the axis is out of range.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (1000,))
      >>> hto.tail_index.hill_path(draws, 100).estimate.shape
      (100,)

    References:
      Drees, de Haan, Resnick, "How to make a Hill plot", Annals of Statistics 28
      (2000).
    """
    samples = check_samples("hill_path", samples, axis)
    max_k = check_fewer_than("hill_path", "max_k", max_k, 1, samples.shape[-1])
    return _path(samples, max_k)
