"""Two tests of Hill's assumption that the tail is a power law."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._result_text import short_repr
from heavytail_optax._typing import Key
from heavytail_optax._validation import check_count
from heavytail_optax.tail_index._arguments import check_fewer_than, check_samples
from heavytail_optax.tail_index._hill import log_spacings
from heavytail_optax.tail_index._log_excesses import log_excesses_over_last
from heavytail_optax.tail_index._order_statistics import largest
from heavytail_optax.tail_index._padded_draws import as_traced, largest_padded
from heavytail_optax.tail_index._quick_programs import quick_jit
from heavytail_optax.tail_index._sums import sums
from heavytail_optax.tail_index._ties import ties_of_first

_DRIFT, _GOODNESS = "hill_drift", "goodness_of_fit"


class HillDrift(NamedTuple):
    """How Hill's estimate changes with k; each field has the shape of the batch.

    Attributes:
      estimate: alpha from the k largest draws.
      outer_estimate: alpha from the k // 4 largest; NaN if these and the next are
        equal.
      z: the trend in standard errors; positive if the tail is lighter farther out.
      p_value: two-sided p-value of the trend under a power law.
    """

    estimate: jax.Array
    outer_estimate: jax.Array
    z: jax.Array
    p_value: jax.Array

    __repr__ = short_repr


class GoodnessOfFit(NamedTuple):
    """How well a power law fits the k largest draws; fields have the batch's shape.

    Attributes:
      distance: Kolmogorov-Smirnov distance between the draws above the threshold and
        the best-fitting power law.
      p_value: share of `num_simulations` samples from a power law that are at least as
        far from their own best fit.
    """

    distance: jax.Array
    p_value: jax.Array

    __repr__ = short_repr


# One program per shape: compiling the operations one by one takes far longer.
@quick_jit
def drift_of_first(descending: jax.Array, k: jax.Array) -> HillDrift:
    """The drift of the first k of draws in descending order, k below their number."""
    place = jax.lax.broadcasted_iota(jnp.int32, descending.shape, descending.ndim - 1)
    place, count = place[..., :-1] + 1, k.astype(descending.dtype)
    spacings = jnp.where(place <= k, log_spacings(descending), 0.0)
    spacings = jnp.pad(spacings, [(0, 0)] * (place.ndim - 1) + [(0, 1)])
    place = jnp.pad(place, [(0, 0)] * (place.ndim - 1) + [(0, 1)])
    outer = jnp.where(place <= k // 4, spacings, 0.0)
    trend = spacings * (place / count - 0.5 * (count + 1.0) / count)
    gamma, outer, trend = sums(spacings, outer, trend)
    gamma, outer = gamma / count, outer / (k // 4)
    tied = ties_of_first(descending, k + 1).count
    gamma = jnp.where(tied > k, jnp.nan, gamma)
    outer = jnp.where(tied > k // 4, jnp.nan, outer)
    z = trend / gamma * jnp.sqrt(12.0 / count)
    p_value = 2.0 * jax.scipy.stats.norm.sf(jnp.abs(z))
    return HillDrift(1.0 / gamma, 1.0 / outer, z, p_value)


@on_auto_axes
def hill_drift(samples: npt.ArrayLike, k: int, *, axis: int | None = -1) -> HillDrift:
    r"""Tests whether Hill's estimate changes with k more than chance allows.

    Under a power law the scaled log-spacings `V_j = j log(X_(j) / X_(j+1))` are
    independent exponentials with the same mean. The trend

    .. math::
      z = \sqrt{\frac{12}{k}} \sum_{j=1}^{k}
        \Bigl(\frac{j}{k} - \frac{k + 1}{2k}\Bigr) \frac{V_j}{\bar V}

    is then standard normal. A light tail makes it positive, because alpha grows farther
    out in the tail. So do clipped draws. A threshold in the body of a law whose far
    tail is a power law makes it positive, too, but less so. So try a smaller k before
    you conclude.

    Args:
      samples: floating array; the k + 1 largest along the axis must be positive and not
        all equal, or the result is NaN.
      k: how many of the largest draws to use, from 8 to n - 1.
      axis: the axis of the draws; None takes all axes together.

    Returns:
      A `HillDrift`. With an infinite draw the estimates are zero, and all others are
      NaN.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if k or the axis is out of range.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = abs(hto.tails.gaussian().sample(jax.random.key(0), (10_000,)))
      >>> drift = hto.tail_index.hill_drift(draws, 1000)
      >>> bool(drift.p_value < 0.01), bool(drift.outer_estimate > drift.estimate)
      (True, True)
    """
    samples = check_samples(_DRIFT, samples, axis, least=9)
    k = check_fewer_than(_DRIFT, "k", k, 8, samples.shape[-1])
    return drift_of_first(largest_padded(samples, k + 1), as_traced(k))


def _distance(exponentials: jax.Array) -> jax.Array:
    """Kolmogorov-Smirnov distance from the exponential law with the same mean.

    Args:
      exponentials: in descending order along the last axis.
    """
    k = exponentials.shape[-1]
    mean = jnp.mean(exponentials, axis=-1, keepdims=True)
    survival = jnp.exp(-exponentials / mean)
    rank = jnp.arange(k, dtype=exponentials.dtype)
    rank = rank.reshape((1,) * (exponentials.ndim - 1) + (-1,))
    apart = jnp.maximum(survival - rank / k, (rank + 1.0) / k - survival)
    return jnp.max(apart, axis=-1)


# Compiled once for all calls; an eager loop would be compiled again in each call.
@functools.partial(jax.jit, static_argnames=("k", "num", "dtype"))
def _simulated_distances(key: jax.Array, k: int, num: int, dtype) -> jax.Array:
    """Distances of `num` samples of k exponentials."""
    ranks = jnp.arange(1, k + 1, dtype=dtype)

    def simulate(key):
        # In descending order by Rényi's representation, without a sort.
        steps = jax.random.exponential(key, (k,), dtype) / ranks
        return _distance(jnp.flip(jnp.cumsum(jnp.flip(steps))))

    return jax.lax.map(simulate, jax.random.split(key, num))


@on_auto_axes
def goodness_of_fit(
    samples: npt.ArrayLike,
    k: int,
    *,
    key: Key,
    num_simulations: int = 1000,
    axis: int | None = -1,
) -> GoodnessOfFit:
    r"""Tests whether a power law fits the k largest draws.

    The distance between the draws above the threshold and their best power law is
    compared with that of samples from a power law, each from its own best fit. The
    p-value is exact if k is given in advance. If k was chosen to make the distance
    small, a large p-value says less. A small p-value says that the tail is not a power
    law from this threshold on; a large one says that so few draws cannot tell. The
    power law is continuous. So m equal draws, as after clipping or rounding, are a step
    of m / k and count against it.

    Args:
      samples: floating array; the k + 1 largest along the axis must be positive and not
        all equal, or the result is NaN.
      k: how many of the largest draws to use, from 2 to n - 1.
      key: an integer seed, a typed key or a legacy key.
      num_simulations: number of simulated samples. The smallest possible p-value is
        `1 / (num_simulations + 1)`.
      axis: the axis of the draws; None takes all axes together.

    Returns:
      A `GoodnessOfFit`. NaN if a draw is infinite.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = abs(hto.tails.gaussian().sample(jax.random.key(0), (10_000,)))
      >>> bool(hto.tail_index.goodness_of_fit(draws, 2000, key=0).p_value < 0.01)
      True

    References:
      Clauset, Shalizi, Newman, "Power-law distributions in empirical data", SIAM Review
      51 (2009), section 4.1, for one given threshold.
    """
    samples = check_samples(_GOODNESS, samples, axis, least=3)
    k = check_fewer_than(_GOODNESS, "k", k, 2, samples.shape[-1])
    check_key(_GOODNESS, key)
    num_simulations = check_count(_GOODNESS, "num_simulations", num_simulations, 1)
    excesses = log_excesses_over_last(largest(samples, k + 1))
    distance = _distance(excesses.values)
    key = tagged_key(key, _GOODNESS)
    simulated = _simulated_distances(key, k, num_simulations, samples.dtype)
    # In ascending order: all from the first that is not smaller are at least as far.
    below = jnp.searchsorted(jnp.sort(simulated), distance)
    as_far = num_simulations - below
    p_value = (1.0 + as_far) / (1.0 + num_simulations)
    return GoodnessOfFit(distance, jnp.where(jnp.isnan(distance), jnp.nan, p_value))
