"""The automatic choice of the k whose power law is closest to the draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._validation import check_count
from heavytail_optax.tail_index._arguments import (
    check_confidence,
    check_fewer_than,
    check_samples,
)
from heavytail_optax.tail_index._choice_of_k import ChosenK, each_row, top_of
from heavytail_optax.tail_index._hill import hill_of_first
from heavytail_optax.tail_index._padded_draws import as_traced, largest_padded
from heavytail_optax.tail_index._quick_programs import quick_jit
from heavytail_optax.tail_index._result import normal_quantile

_NAME = "choose_k_by_distance"


def _candidates(min_k: int, max_k: int, num_candidates: int) -> np.ndarray:
    if max_k - min_k < num_candidates:
        return np.arange(min_k, max_k + 1)
    return np.unique(np.round(np.geomspace(min_k, max_k, num_candidates)).astype(int))


@functools.partial(quick_jit, static_argnames=("num_points",), has_loops=True)
def _by_distance(
    descending: jax.Array,
    num: jax.Array,
    max_k: jax.Array,
    candidates: jax.Array,
    num_points: int,
) -> tuple[jax.Array, jax.Array]:
    """The best candidate of each row, moved on so as not to split equal draws."""
    place = jnp.linspace(0.0, 1.0, num_points, dtype=descending.dtype)

    def choose(descending):
        top = top_of(descending, num, max_k)
        logs, total, first, last, tied = top
        ks = jnp.minimum(last[candidates], max_k)

        def distance(k):
            # The draw at the threshold is not counted, unless several draws equal it:
            # then draws are rounded to that value, which is a threshold without it.
            n = jnp.where(first[k] < k, k + 1, k)
            # The draws of rank 1 to n, or equally spaced ones among them. The height of
            # a step of the distribution function is the number of equal draws.
            index = jnp.round(place * (n - 1)).astype(jnp.int32)
            gamma = total[n - 1] / n - logs[k]
            model = jnp.exp(-(logs[index] - logs[k]) / gamma)
            end = jnp.minimum(last[index], n - 1)
            above, below = model - first[index] / n, (end + 1) / n - model
            furthest = jnp.max(jnp.maximum(above, below))
            # Not of `furthest`: on a CPU, the maximum over one of several axes may
            # ignore NaN.
            is_usable = (gamma > 0.0) & (k >= tied) & (last[k] == k)
            return jnp.where(is_usable, furthest, jnp.inf)

        distances = jax.lax.map(distance, ks)
        best = jnp.argmin(distances)
        return ks[best], distances[best]

    return each_row(choose, descending)


@on_auto_axes
def choose_k_by_distance(
    samples: npt.ArrayLike,
    *,
    min_k: int = 10,
    max_k: int | None = None,
    num_candidates: int = 200,
    num_points: int = 1000,
    axis: int | None = -1,
    confidence: float = 0.95,
) -> ChosenK:
    r"""The k whose power law is closest to the draws above the threshold.

    .. math::
      \hat k = \arg\min_k \max_{x \ge X_{(k+1)}} \Bigl|
        F_k(x) - \Bigl(\frac{x}{X_{(k+1)}}\Bigr)^{-\hat\alpha_k}
      \Bigr|,

    where F_k(x) is the share of these draws that are above x, evaluated on both sides
    of each step. The choice is fast and uses no random numbers. For smooth laws such as
    Student's, it tends to choose too large a k. It also returns a k for a light tail:
    it finds the closest power law, which need not be close.

    This is the choice of Clauset, Shalizi and Newman, whose n_tail is k + 1. All draws
    that equal the threshold belong to the tail. So no k splits equal draws, and the
    step at the threshold counts with its whole height. From the American surnames,
    2,753 draws of 152 values, it takes the 239 from 111,919 on, as they do. The
    `powerlaw` package makes nearly the same choice if no draws are equal. If some are,
    its choice differs, because its version 2.0 leaves the draws that equal the
    threshold out of the distance. From the surnames it takes the 2,280 from 14,923 on,
    of which 338 equal 14,923.

    Args:
      samples: floating array.
      min_k: the smallest k to consider.
      max_k: the largest k to consider. Default: n - 1, at most 100,000.
      num_candidates: number of values of k to compare, equally spaced in log k; all of
        them if there are no more. Each is moved on to the next k that does not split
        equal draws.
      num_points: number of ranks at which a distance is computed, equally spaced among
        the k; all of them if there are no more. The ranks between would change a
        distance by a relative amount of the order of `1 / sqrt(num_points)`.
      axis: the axis of the draws; None takes all axes together.
      confidence: confidence level of the interval, between 0 and 1.

    Returns:
      A `ChosenK`. With an infinite draw the index is zero, and k means nothing.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (5000,))
      >>> index = hto.tail_index.choose_k_by_distance(draws).index
      >>> bool(index.lower < 1.5 < index.upper)
      True

    References:
      Clauset, Shalizi, Newman, "Power-law distributions in empirical data", SIAM Review
      51 (2009), section 3.3.
    """
    samples = check_samples(_NAME, samples, axis, least=12)
    size = samples.shape[-1]
    if max_k is None:
        max_k = min(size - 1, 100_000)
    max_k = check_fewer_than(_NAME, "max_k", max_k, 2, size)
    min_k = check_count(_NAME, "min_k", min_k, 2, max_k, most_is="`max_k`")
    num_candidates = check_count(_NAME, "num_candidates", num_candidates, 1)
    num_points = check_count(_NAME, "num_points", num_points, 2)
    check_confidence(_NAME, confidence)
    candidates = _candidates(min_k, max_k, num_candidates)
    # The last again, so that there are always as many.
    room = num_candidates - candidates.size
    candidates = np.pad(candidates, (0, room), mode="edge").astype(np.int32)
    num = min(max_k + 2, size)
    descending = largest_padded(samples, num)
    k, criterion = _by_distance(
        descending,
        as_traced(num),
        as_traced(max_k),
        jnp.asarray(candidates),
        num_points,
    )
    z = normal_quantile(confidence, samples.dtype)
    index, interval_k = hill_of_first(descending, as_traced(max_k + 1), k, z)
    return ChosenK(k, index, interval_k, criterion)
