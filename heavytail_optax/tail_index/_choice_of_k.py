"""Two automatic choices of k, the number of largest draws to use."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._pytrees import vary_like
from heavytail_optax._typing import Key
from heavytail_optax._validation import check_count
from heavytail_optax.tail_index._arguments import check_confidence, check_samples
from heavytail_optax.tail_index._hill import hill_of_first
from heavytail_optax.tail_index._padded_draws import (
    as_traced,
    largest_padded,
    rounded_up,
)
from heavytail_optax.tail_index._quick_programs import quick_jit
from heavytail_optax.tail_index._result import TailIndex, normal_quantile
from heavytail_optax.tail_index._sums import sums
from heavytail_optax.tail_index._ties import (
    equal_first,
    first_and_last_of_ties,
    parting_no_ties,
)

_BOOTSTRAP, _DISTANCE = "choose_k_by_bootstrap", "choose_k_by_distance"


class ChosenK(NamedTuple):
    """A choice of k, and Hill's estimate with that k.

    Equal draws are never split: if several draws equal the threshold, all but the
    threshold itself are among the k, unless there are more than `max_k` of them. The
    k + 1 largest are never all equal, unless the largest `max_k` are.

    Attributes:
      k: how many of the largest draws to use; shape of the batch, dtype=int32.
      index: Hill's estimate with that k. At the k of least error, the bias is as large
        as the random error, and the draws themselves were used to choose k. So the
        interval and the corrected estimate do not use these k draws: they are those of
        `extended_pareto` with the `interval_k` largest.
      interval_k: `k^(3/4)`, but at least ten, or k if that is less; then moved to the
        nearest number that does not split equal draws. dtype=int32.
      criterion: the minimised quantity: the Kolmogorov-Smirnov distance, or the
        bootstrap mean square of the auxiliary statistic in the larger resample, in
        units of gamma^4.
    """

    k: jax.Array
    index: TailIndex
    interval_k: jax.Array
    criterion: jax.Array


class _Top(NamedTuple):
    """The largest draws of one sample, and which of them are equal.

    Attributes:
      logs: logs of the draws over the last positive one among the max_k + 1 largest, in
        descending order, then zeros. NaN for those that are not positive. shape=(m,).
      sums: their running sum. shape=(m,).
      first: for each draw, the position of the first draw equal to it, counted from
        zero. shape=(m,), dtype=int32.
      last: the position of the last draw equal to it; beyond max_k if that is not among
        these. shape=(m,), dtype=int32.
      tied: how many draws equal the largest; 0 if it is alone. shape=(), dtype=int32.
    """

    logs: jax.Array
    sums: jax.Array
    first: jax.Array
    last: jax.Array
    tied: jax.Array


def _top(descending: jax.Array, num: jax.Array, max_k: jax.Array) -> _Top:
    """The top of one sample.

    Args:
      descending: shape (m,); those after the first `num` mean nothing.
      num: max_k + 2, to know whether the draw after the last one equals it, or all.
      max_k: the largest k to consider.
    """
    place = jnp.arange(descending.shape[0], dtype=jnp.int32)
    is_used, is_positive = place <= max_k, descending > 0.0
    is_tied = equal_first(descending, num)
    numbers = (x.astype(jnp.int32) for x in (is_used & is_positive, is_tied))
    positive, tied = sums(*numbers)
    unit = descending[jnp.maximum(positive - 1, 0)]
    logs = jnp.log(jnp.where(is_positive, descending / unit, jnp.nan))
    logs = jnp.where(is_used, logs, 0.0)
    first, last, total = first_and_last_of_ties(descending, num, logs)
    return _Top(logs, total, first, last, jnp.where(tied > 1, tied, 0))


def _each(choose: Callable, descending: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What is chosen for each row, in the shape of the batch."""
    batch, m = descending.shape[:-1], descending.shape[-1]
    if not batch:
        return choose(descending)
    found = jax.vmap(choose)(descending.reshape(-1, m))
    return jax.tree.map(lambda x: x.reshape(batch), found)


class _Resample(NamedTuple):
    """The sizes of a resample, as arrays: few programs serve all.

    Attributes:
      drawn: how many draws it has.
      ranks: how many of its largest draws are looked at.
    """

    drawn: jax.Array
    ranks: jax.Array


def _resampled(
    key: jax.Array, size: jax.Array, resample: _Resample, room: int
) -> jax.Array:
    """Indices of the largest among `drawn` draws with replacement from `size`.

    The ranks of a resample are order statistics of uniforms, which are normalised sums
    of exponentials. So only the top of a resample is computed, at a cost proportional
    to its length. The whole resample is never made or sorted. Of the `room` numbers only
    the first `ranks` mean something.
    """
    steps_key, rest_key = jax.random.split(key)
    sums = jnp.cumsum(jax.random.exponential(steps_key, (room,)))
    number = (resample.drawn + 1 - resample.ranks).astype(sums.dtype)
    rest = jax.random.gamma(rest_key, number)
    all_of_them = sums[resample.ranks - 1] + rest
    return jnp.floor(sums / all_of_them * size).astype(jnp.int32)


def _auxiliary(logs: jax.Array) -> jax.Array:
    """`(M_2 - 2 M_1^2)^2` for k = 1, 2, ...: zero on average for an exact power law."""
    count = jnp.arange(1, logs.shape[0], dtype=logs.dtype)
    first = jnp.cumsum(logs)[:-1] / count
    second = jnp.cumsum(logs**2)[:-1] / count
    at = logs[1:]
    gamma = first - at
    return (second - 2.0 * at * first + at**2 - 2.0 * gamma**2) ** 2


def _best_k(
    top: _Top,
    max_k: jax.Array,
    key: jax.Array,
    size: jax.Array,
    resample: _Resample,
    room: int,
    num: int,
) -> tuple[jax.Array, jax.Array]:
    """The k with the smallest mean square in such resamples."""
    logs = top.logs

    def add(sums, key):
        total, is_tied = sums
        index = jnp.minimum(_resampled(key, size, resample, room), max_k)
        tied = is_tied | (index[1:] < top.tied)
        return (total + _auxiliary(logs[index]), tied), None

    keys = jax.random.split(key, num)
    start = vary_like(
        (jnp.zeros(room - 1, logs.dtype), jnp.zeros(room - 1, bool)), logs[0]
    )
    (total, is_tied), _ = jax.lax.scan(add, start, keys)
    # If all draws are equal it is zero, which says nothing about a power law.
    is_beyond = jnp.arange(1, room) >= resample.ranks
    is_useless = is_tied | jnp.isnan(total) | is_beyond
    total = jnp.where(is_useless, jnp.inf, total).at[0].set(jnp.inf)
    return jnp.argmin(total) + 1, jnp.min(total) / num


# Compiled once for all calls, like the choice below; an eager loop would be compiled
# again in each call.
@functools.partial(
    quick_jit, static_argnames=("rooms", "num_resamples"), has_loops=True
)
def _by_bootstrap(
    descending: jax.Array,
    key: jax.Array,
    size: jax.Array,
    max_k: jax.Array,
    resamples: tuple[_Resample, _Resample],
    rooms: tuple[int, int],
    num_resamples: int,
) -> tuple[jax.Array, jax.Array]:
    """The k of each row, and the criterion; two resamples, the larger first."""
    keys = jax.random.split(key)
    num = jnp.minimum(max_k + 2, size)

    def choose(descending):
        top = _top(descending, num, max_k)
        (first, criterion), (second, _) = (
            _best_k(top, max_k, own, size, resample, room, num_resamples)
            for own, resample, room in zip(keys, resamples, rooms, strict=True)
        )
        log_first = jnp.log(1.0 * first)
        log_size = jnp.log(1.0 * resamples[0].drawn)
        ratio = log_first / (2.0 * log_size - log_first)
        factor = ratio ** (2.0 * (log_size - log_first) / log_size)
        k = jnp.round((1.0 * first) ** 2 / second * factor)  # beyond int32
        k = jnp.clip(k, jnp.clip(top.tied, 2, max_k), max_k).astype(jnp.int32)
        ends = top.first[k], top.last[k], top.last[k] <= max_k
        return parting_no_ties(k, *ends, jnp.maximum(top.tied, 2)), criterion

    return _each(choose, descending)


@on_auto_axes
def choose_k_by_bootstrap(
    samples: npt.ArrayLike,
    *,
    key: Key,
    num_resamples: int = 200,
    max_k: int | None = None,
    axis: int | None = -1,
    confidence: float = 0.95,
) -> ChosenK:
    r"""The k with the least mean square error of Hill's estimate, by double bootstrap.

    .. math::
      \hat k = \frac{k_1^2}{k_2} \Bigl(
        \frac{\log k_1}{2 \log n_1 - \log k_1}
      \Bigr)^{2 (\log n_1 - \log k_1) / \log n_1},

    where k1 and k2 minimise the bootstrap mean of `(M_2 - 2 M_1^2)^2` in resamples of
    n1 = n^0.9 and n2 = n1^2 / n draws. This k balances bias against variance, so an
    interval from the k draws would cover less often than its level; the returned
    interval uses fewer draws. If the k + 1 largest draws are all equal, the statistic
    is zero for every law, so no such k is considered.

    Args:
      samples: floating array, at least 50 draws.
      key: an integer seed, a typed key or a legacy key. All samples of a batch share
        the resampled ranks.
      num_resamples: number of resamples of each size, at least one.
      max_k: the largest k to consider. Default: half the draws, at most 50,000.
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
      >>> draws = hto.tails.student_t(2.0).sample(jax.random.key(0), (5000,))
      >>> choice = hto.tail_index.choose_k_by_bootstrap(draws, key=0)
      >>> bool(20 < choice.k < 500)
      True

    References:
      Danielsson, de Haan, Peng, de Vries, "Using a bootstrap method to choose the
      sample fraction in tail index estimation", Journal of Multivariate Analysis 76
      (2001).
    """
    samples = check_samples(_BOOTSTRAP, samples, axis, least=50)
    check_key(_BOOTSTRAP, key)
    num_resamples = check_count(_BOOTSTRAP, "num_resamples", num_resamples, 1)
    size = samples.shape[-1]
    if max_k is None:
        max_k = min(size // 2, 50_000)
    max_k = check_count(_BOOTSTRAP, "max_k", max_k, 20, size - 1)
    check_confidence(_BOOTSTRAP, confidence)
    descending = largest_padded(samples, min(max_k + 2, size))
    key = tagged_key(key, _BOOTSTRAP)
    first = round(size**0.9)
    drawn = first, round(first**2 / size)
    ranks = tuple(int(0.9 * (max_k + 1) * each / size) for each in drawn)
    k, criterion = _by_bootstrap(
        descending,
        key,
        as_traced(size),
        as_traced(max_k),
        tuple(_Resample(*map(as_traced, each)) for each in zip(drawn, ranks)),
        tuple(map(rounded_up, ranks)),
        num_resamples,
    )
    z = normal_quantile(confidence, samples.dtype)
    index, interval_k = hill_of_first(descending, as_traced(max_k + 1), k, z)
    return ChosenK(k, index, interval_k, criterion * index.estimate**4)


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
        top = _top(descending, num, max_k)
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

    return _each(choose, descending)


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
    samples = check_samples(_DISTANCE, samples, axis, least=12)
    size = samples.shape[-1]
    if max_k is None:
        max_k = min(size - 1, 100_000)
    max_k = check_count(_DISTANCE, "max_k", max_k, 2, size - 1)
    min_k = check_count(_DISTANCE, "min_k", min_k, 2, max_k)
    num_candidates = check_count(_DISTANCE, "num_candidates", num_candidates, 1)
    num_points = check_count(_DISTANCE, "num_points", num_points, 2)
    check_confidence(_DISTANCE, confidence)
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
