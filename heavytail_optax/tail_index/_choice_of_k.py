"""How many of the largest draws to use: two automatic choices."""

import functools
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
from heavytail_optax.tail_index._order_statistics import largest
from heavytail_optax.tail_index._result import TailIndex
from heavytail_optax.tail_index._ties import (
    first_of_ties,
    last_of_ties,
    parting_no_ties,
    ties_of_largest,
)

_BOOTSTRAP, _DISTANCE = "choose_k_by_bootstrap", "choose_k_by_distance"


class ChosenK(NamedTuple):
    """A choice of k, and Hill's estimate with it.

    Equal draws are never split: of those equal to the threshold, only the threshold itself
    is not among the k, unless there are more than `max_k` of them. Nor are the k + 1
    largest all equal, unless the largest `max_k` are.

    Attributes:
      k: how many of the largest draws to use; shape of the batch, dtype=int32.
      index: Hill's estimate with that k. The k of the least error lets in as much bias
        as chance, and it was chosen by looking at the draws. So the interval is not one
        of these k draws: it is that of `extended_pareto` with the `interval_k` largest.
        It may leave the estimate out, which then is biased.
      interval_k: `k^(3/4)`, but at least ten, or k if that is less, moved to the
        nearest that does not split equal draws; dtype=int32.
      criterion: what was made small: the Kolmogorov-Smirnov distance, or the bootstrap
        mean square of the auxiliary statistic in the larger resample, in units of
        gamma^4.
    """

    k: jax.Array
    index: TailIndex
    interval_k: jax.Array
    criterion: jax.Array


class _Top(NamedTuple):
    """The largest draws of each row, and which are equal.

    Attributes:
      logs: of the max_k + 1 largest, in descending order. shape=(rows, max_k + 1).
      first: the place of the first draw that equals each one, from zero on. The same
        shape, dtype=int32.
      last: of the last one; beyond max_k if it is not among these. The same.
      tied: how many equal the largest; 0 if it is alone. shape=(rows,), dtype=int32.
    """

    logs: jax.Array
    first: jax.Array
    last: jax.Array
    tied: jax.Array


@jax.jit
def _places(draws: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    count = ties_of_largest(draws, draws.shape[-1]).count
    tied = jnp.where(count > 1, count, 0)
    return first_of_ties(draws), last_of_ties(draws), tied


def _top(samples: jax.Array, max_k: int) -> tuple[_Top, jax.Array]:
    """The top of each row, and the draws themselves, of the shape of the batch."""
    # One more, to know whether the last one has its equals behind it.
    draws = largest(samples, min(max_k + 2, samples.shape[-1]))
    descending = draws[..., : max_k + 1]
    first, last, tied = _places(draws.reshape(-1, draws.shape[-1]))
    logs = _centred_logs(descending).reshape(-1, max_k + 1)
    return _Top(logs, first[:, : max_k + 1], last[:, : max_k + 1], tied), descending


def _centred_logs(descending: jax.Array) -> jax.Array:
    """Logs of the draws over the last positive one; NaN from there on."""
    positive = jnp.where(descending > 0.0, descending, jnp.nan)
    return jnp.log(positive / jnp.nanmin(positive, axis=-1, keepdims=True))


def _resampled(key: jax.Array, size: int, drawn: int, ranks: int) -> jax.Array:
    """Indices of the largest `ranks` of `drawn` draws with replacement from `size`.

    The ranks of a resample are order statistics of uniforms, which are normalised sums
    of exponentials. So the top of a resample costs as much as its length, and neither
    the resample nor its sort is ever made.
    """
    steps_key, rest_key = jax.random.split(key)
    sums = jnp.cumsum(jax.random.exponential(steps_key, (ranks,)))
    rest = jax.random.gamma(rest_key, float(drawn + 1 - ranks))
    return jnp.floor(sums / (sums[-1] + rest) * size).astype(jnp.int32)


def _auxiliary(logs: jax.Array) -> jax.Array:
    """`(M_2 - 2 M_1^2)^2` for k = 1, 2, ...: zero on average for an exact power law."""
    count = jnp.arange(1, logs.shape[0], dtype=logs.dtype)
    first = jnp.cumsum(logs)[:-1] / count
    second = jnp.cumsum(logs**2)[:-1] / count
    at = logs[1:]
    gamma = first - at
    return (second - 2.0 * at * first + at**2 - 2.0 * gamma**2) ** 2


def _best_k(
    logs: jax.Array, tied: jax.Array, key: jax.Array, size: int, drawn: int, num: int
):
    """The k that makes the mean square smallest in resamples of `drawn` draws."""
    most = int(0.9 * logs.shape[0] * drawn / size)

    def add(sums, key):
        total, is_tied = sums
        index = jnp.minimum(_resampled(key, size, drawn, most), logs.shape[0] - 1)
        return (total + _auxiliary(logs[index]), is_tied | (index[1:] < tied)), None

    keys = jax.random.split(key, num)
    start = vary_like(
        (jnp.zeros(most - 1, logs.dtype), jnp.zeros(most - 1, bool)), logs[0]
    )
    (total, is_tied), _ = jax.lax.scan(add, start, keys)
    # Where all are equal it is zero, which says nothing of a power law.
    is_useless = is_tied | jnp.isnan(total)
    total = jnp.where(is_useless, jnp.inf, total).at[0].set(jnp.inf)
    return jnp.argmin(total) + 1, jnp.min(total) / num


# Compiled once for all calls, like the choice below: an eager loop would be compiled
# anew in each.
@functools.partial(jax.jit, static_argnames=("size", "num_resamples"))
def _by_bootstrap(top: _Top, key: jax.Array, size: int, num_resamples: int):
    """The k of each row, and the criterion."""
    max_k = top.logs.shape[-1] - 1
    first_size = round(size**0.9)
    second_size = round(first_size**2 / size)
    first_key, second_key = jax.random.split(key)

    def choose(top):
        logs, _, last, tied = top
        first, criterion = _best_k(
            logs, tied, first_key, size, first_size, num_resamples
        )
        second, _ = _best_k(logs, tied, second_key, size, second_size, num_resamples)
        log_first = jnp.log(1.0 * first)
        log_size = jnp.log(1.0 * first_size)
        ratio = log_first / (2.0 * log_size - log_first)
        factor = ratio ** (2.0 * (log_size - log_first) / log_size)
        k = jnp.round(first**2 / second * factor)
        k = jnp.clip(k, jnp.clip(tied, 2, max_k), max_k).astype(jnp.int32)
        return parting_no_ties(k, last, jnp.maximum(tied, 2)), criterion

    return jax.vmap(choose)(top)


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
    r"""The k of least mean square error of Hill's estimate, by a double bootstrap.

    .. math::
      \hat k = \frac{k_1^2}{k_2} \Bigl(
        \frac{\log k_1}{2 \log n_1 - \log k_1}
      \Bigr)^{2 (\log n_1 - \log k_1) / \log n_1},

    with k1 and k2 the values at which the bootstrap mean of `(M_2 - 2 M_1^2)^2` is
    smallest in resamples of n1 = n^0.9 and n2 = n1^2 / n draws. It balances bias against
    variance, so that at the k it chooses no interval would cover as often as it says;
    the one returned is of fewer draws. Where the k + 1 largest draws are all equal the
    statistic is zero whatever the law, and no such k is considered.

    Args:
      samples: floating array, at least 50 draws.
      key: an integer seed, a typed key or a legacy key. All of a batch share the
        resampled ranks.
      num_resamples: of each size, at least one.
      max_k: the largest k to consider; by default half the draws, 50,000 at most.
      axis: the axis of the draws; None takes all axes together.
      confidence: of the interval, between 0 and 1.

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
      Danielsson, de Haan, Peng, de Vries, "Using a bootstrap method to choose the sample
      fraction in tail index estimation", Journal of Multivariate Analysis 76 (2001).
    """
    samples = check_samples(_BOOTSTRAP, samples, axis, least=50)
    check_key(_BOOTSTRAP, key)
    num_resamples = check_count(_BOOTSTRAP, "num_resamples", num_resamples, 1)
    size = samples.shape[-1]
    if max_k is None:
        max_k = min(size // 2, 50_000)
    max_k = check_count(_BOOTSTRAP, "max_k", max_k, 20, size - 1)
    check_confidence(_BOOTSTRAP, confidence)
    top, descending = _top(samples, max_k)
    key = tagged_key(key, _BOOTSTRAP)
    flat_k, criterion = _by_bootstrap(top, key, size, num_resamples)
    shape = samples.shape[:-1]
    k = flat_k.reshape(shape)
    index, interval_k = hill_of_first(descending, k, confidence)
    criterion = criterion.reshape(shape) * index.estimate**4
    return ChosenK(k, index, interval_k, criterion)


def _candidates(min_k: int, max_k: int, num_candidates: int) -> np.ndarray:
    if max_k - min_k < num_candidates:
        return np.arange(min_k, max_k + 1)
    return np.unique(np.round(np.geomspace(min_k, max_k, num_candidates)).astype(int))


@functools.partial(jax.jit, static_argnames="num_points")
def _by_distance(top: _Top, candidates: jax.Array, num_points: int):
    """The best candidate of each row, moved on so that it parts no equal draws."""
    max_k = top.logs.shape[-1] - 1
    place = jnp.linspace(0.0, 1.0, num_points, dtype=top.logs.dtype)

    def choose(top):
        logs, first, last, tied = top
        sums = jnp.cumsum(logs)
        ks = jnp.minimum(last[candidates], max_k)

        def distance(k):
            # The draw at the threshold is used up by it, unless it is one of several: a
            # value that draws are rounded to is a threshold without it.
            n = jnp.where(first[k] < k, k + 1, k)
            # The draws of rank 1 to n, or evenly chosen ones among them; a step of the
            # distribution function is as high as there are equal draws.
            index = jnp.round(place * (n - 1)).astype(jnp.int32)
            gamma = sums[n - 1] / n - logs[k]
            model = jnp.exp(-(logs[index] - logs[k]) / gamma)
            end = jnp.minimum(last[index], n - 1)
            above, below = model - first[index] / n, (end + 1) / n - model
            furthest = jnp.max(jnp.maximum(above, below))
            # Not of `furthest`: on a CPU, the maximum over one axis of several may pass
            # over NaN.
            is_usable = (gamma > 0.0) & (k >= tied) & (last[k] == k)
            return jnp.where(is_usable, furthest, jnp.inf)

        distances = jax.lax.map(distance, ks)
        best = jnp.argmin(distances)
        return ks[best], distances[best]

    return jax.vmap(choose)(top)


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
    r"""The k whose power law is nearest to the draws above the threshold.

    .. math::
      \hat k = \arg\min_k \max_{x \ge X_{(k+1)}} \Bigl|
        F_k(x) - \Bigl(\frac{x}{X_{(k+1)}}\Bigr)^{-\hat\alpha_k}
      \Bigr|,

    with F_k(x) the share of these draws that are above x, seen from both sides of each of
    its steps. It is fast and uses no random numbers, and tends to take too large a
    k for smooth laws such as Student's. A light tail is approximated, too: it says which
    power law is nearest, not that it is near.

    It is the choice of Clauset, Shalizi and Newman, whose n_tail is k + 1. All draws that
    equal the threshold belong to the tail, so that no k parts equal draws, and the step
    there counts with its whole height. Of the American surnames, 2,753 draws of 152
    values, it takes the 239 from 111,919 on, as they do. The `powerlaw` package makes nearly
    the same choice where no draws are equal. On others it does not: its version 2.0 leaves
    the draws that equal the threshold out of the distance. Of the surnames it takes the
    2,280 from 14,923 on, of which 338 equal 14,923.

    Args:
      samples: floating array.
      min_k: the smallest k to consider.
      max_k: the largest; by default n - 1, 100,000 at most.
      num_candidates: how many values of k are compared, evenly in log k; all of them
        where there are no more. Each is moved on to the next that does not split equal draws.
      num_points: at how many ranks a distance is computed, evenly among the k; all of
        them where there are no more. What the ranks between add to a distance is of
        the order of `1 / sqrt(num_points)` of it.
      axis: the axis of the draws; None takes all axes together.
      confidence: of the interval, between 0 and 1.

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
    candidates = jnp.asarray(_candidates(min_k, max_k, num_candidates), jnp.int32)
    top, descending = _top(samples, max_k)
    num_points = min(num_points, max_k)
    k, criterion = _by_distance(top, candidates, num_points)
    k = k.reshape(samples.shape[:-1])
    index, interval_k = hill_of_first(descending, k, confidence)
    return ChosenK(k, index, interval_k, criterion.reshape(k.shape))
