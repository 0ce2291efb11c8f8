"""The automatic choice of k of least error, by double bootstrap."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._pytrees import vary_like
from heavytail_optax._typing import Key
from heavytail_optax._validation import check_count
from heavytail_optax.tail_index._arguments import (
    check_confidence,
    check_fewer_than,
    check_samples,
)
from heavytail_optax.tail_index._choice_of_k import ChosenK, Top, each_row, top_of
from heavytail_optax.tail_index._hill import hill_of_first
from heavytail_optax.tail_index._padded_draws import (
    as_traced,
    largest_padded,
    rounded_up,
)
from heavytail_optax.tail_index._quick_programs import quick_jit
from heavytail_optax.tail_index._result import normal_quantile
from heavytail_optax.tail_index._ties import parting_no_ties

_NAME = "choose_k_by_bootstrap"


class Resample(NamedTuple):
    """The sizes of a resample, as arrays: few programs serve all.

    Attributes:
      drawn: how many draws it has.
      ranks: how many of its largest draws are looked at.
    """

    drawn: jax.Array
    ranks: jax.Array


def resampled(
    key: jax.Array, size: jax.Array, resample: Resample, room: int
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
    top: Top,
    max_k: jax.Array,
    key: jax.Array,
    size: jax.Array,
    resample: Resample,
    room: int,
    num: int,
) -> tuple[jax.Array, jax.Array]:
    """The k with the smallest mean square in such resamples."""
    logs = top.logs

    def add(sums, key):
        total, is_tied = sums
        index = jnp.minimum(resampled(key, size, resample, room), max_k)
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
    resamples: tuple[Resample, Resample],
    rooms: tuple[int, int],
    num_resamples: int,
) -> tuple[jax.Array, jax.Array]:
    """The k of each row, and the criterion; two resamples, the larger first."""
    keys = jax.random.split(key)
    num = jnp.minimum(max_k + 2, size)

    def choose(descending):
        top = top_of(descending, num, max_k)
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

    return each_row(choose, descending)


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
    samples = check_samples(_NAME, samples, axis, least=50)
    check_key(_NAME, key)
    num_resamples = check_count(_NAME, "num_resamples", num_resamples, 1)
    size = samples.shape[-1]
    if max_k is None:
        max_k = min(size // 2, 50_000)
    max_k = check_fewer_than(_NAME, "max_k", max_k, 20, size)
    check_confidence(_NAME, confidence)
    descending = largest_padded(samples, min(max_k + 2, size))
    key = tagged_key(key, _NAME)
    first = round(size**0.9)
    drawn = first, round(first**2 / size)
    ranks = tuple(int(0.9 * (max_k + 1) * each / size) for each in drawn)
    k, criterion = _by_bootstrap(
        descending,
        key,
        as_traced(size),
        as_traced(max_k),
        tuple(Resample(*map(as_traced, each)) for each in zip(drawn, ranks)),
        tuple(map(rounded_up, ranks)),
        num_resamples,
    )
    z = normal_quantile(confidence, samples.dtype)
    index, interval_k = hill_of_first(descending, as_traced(max_k + 1), k, z)
    return ChosenK(k, index, interval_k, criterion * index.estimate**4)
