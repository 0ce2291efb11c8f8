"""How large draws cluster in time, and what that does to intervals."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._result_text import is_one_number, short_repr
from heavytail_optax.tail_index._arguments import (
    check_confidence,
    check_fewer_than,
    check_samples,
)
from heavytail_optax.tail_index._padded_draws import (
    as_traced,
    is_on_host,
    rounded_up,
)
from heavytail_optax.tail_index._quick_programs import quick_jit
from heavytail_optax.tail_index._result import normal_quantile

_NAME = "extremal_index"
FEWEST_OF_CLUSTERS = 20
_NEAR = 10  # draws that are at most so far apart count as close


class ExtremalIndex(NamedTuple):
    """How the k largest draws of a series cluster; fields have the shape of the batch.

    Attributes:
      estimate: theta, from 0 to 1: one over the mean size of a cluster of large draws.
      standard_error: that of theta, before it is cut at 1. Infinite, with an interval
        from 0 to 1, if one gap alone parts the draws into two clusters.
      lower: lower end of the interval of theta, around the estimate before that cut: if
        it is near 1, the estimate was above.
      upper: upper end.
      variance_inflation: by how much dependence multiplies the variance of an index from
        these k draws; at least 1. Pass it to `hill` and `generalised_pareto`.
      p_value: of independent draws, given how many of the k largest are at most ten
        draws apart. If it is below 0.01, the draws are plainly not independent.
      k: how many of the largest draws were used. dtype=int32.
      threshold: the next largest draw.
    """

    estimate: jax.Array
    standard_error: jax.Array
    lower: jax.Array
    upper: jax.Array
    variance_inflation: jax.Array
    p_value: jax.Array
    k: jax.Array
    threshold: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.estimate):
            return repr(self)
        ends = f"({self.lower:.2f} to {self.upper:.2f})"
        return (
            f"extremal index {self.estimate:.2f} {ends}; p = {self.p_value:.2g} for "
            "independent draws"
        )


def _mean(values: jax.Array, is_used: jax.Array, num: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(is_used, values, 0.0)) / num


def _theta(gaps: jax.Array, num: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The intervals estimator and the jackknife's standard error of its logarithm.

    Only the first `num` gaps mean something.
    """
    is_used = jnp.arange(gaps.size) < num
    gaps = jnp.where(is_used, gaps, 1.0)
    mean = _mean(gaps, is_used, num)
    are_short = jnp.max(gaps) <= 2.0
    first = jnp.where(are_short, gaps, gaps - 1.0)
    second = jnp.where(are_short, gaps**2, (gaps - 1.0) * (gaps - 2.0))
    # Relative to the mean, so that squares stay in range.
    first = jnp.where(is_used, first / mean, 0.0)
    second = jnp.where(is_used, second / mean**2, 0.0)
    one, two = jnp.sum(first), jnp.sum(second)
    estimate = 2.0 * one**2 / (num * two)
    without = jnp.log(2.0 * (one - first) ** 2 / ((num - 1.0) * (two - second)))
    around = without - _mean(without, is_used, num)
    error = jnp.sqrt((num - 1.0) * _mean(around**2, is_used, num))
    # One gap between two clusters: without it, nothing is known of theta.
    return estimate, jnp.where(jnp.sum(second > 0.0) > 1, error, jnp.inf)


def _blocks_inflation(
    place: jax.Array, influence: jax.Array, blocks: jax.Array, size: jax.Array
) -> jax.Array:
    """The variance of sums over blocks of time, over that of independent draws."""
    number = jnp.arange(_num_blocks(place.size))
    own = place // -(-size // blocks)
    is_in = own[:, None] == number[None]
    sums = jnp.sum(jnp.where(is_in, influence[:, None], 0.0), axis=0)
    is_used = number < blocks
    around = sums - _mean(sums, is_used, blocks)
    variance = blocks * _mean(around**2, is_used, blocks) / (blocks - 1)
    return blocks * variance / jnp.sum(influence**2)


def _num_blocks(k: int) -> int:
    return max(2, round(k**0.5))


def _of_top(
    top: jax.Array,
    where: jax.Array,
    size: jax.Array,
    k: jax.Array,
    blocks: jax.Array,
    z: jax.Array,
) -> ExtremalIndex:
    """That of the k + 1 largest draws in descending order, and when they were drawn.

    What comes after these means nothing.
    """
    number = jnp.arange(top.size)
    is_used = number < k
    threshold = top[k]
    is_usable = (top[k // 2] > threshold) & jnp.isfinite(top[0]) & (size > k)
    # As for Hill's estimator if the draws are positive; else whether they are large.
    logs = jnp.log(jnp.maximum(top, 0.0) / threshold)
    has_logs = is_usable & (threshold > 0.0)
    logs = jnp.where(has_logs & is_used, logs, 1.0)
    influence = jnp.where(has_logs, logs / _mean(logs, is_used, k) - 1.0, 1.0)
    influence = jnp.where(is_used, influence, 0.0)
    inflation = _blocks_inflation(where, influence, blocks, size)
    place = jnp.sort(jnp.where(is_used, where, jnp.iinfo(jnp.int32).max))
    estimate, log_error = _theta(jnp.diff(place).astype(top.dtype), k - 1)
    room = jnp.exp(z * log_error)
    theta = jnp.minimum(estimate, 1.0)
    close = sum(
        jnp.sum((place[lag:] - place[:-lag] <= _NEAR) & is_used[lag:])
        for lag in range(1, _NEAR + 1)
    )
    # In floating numbers, as ten times an int32 may be too large for one.
    pairs = sum(size.astype(top.dtype) - lag for lag in range(1, _NEAR + 1))
    expected = pairs * (k / size) * ((k - 1) / (size - 1))
    close = close.astype(top.dtype)
    p_value = jax.scipy.special.gammainc(jnp.maximum(close, 1.0), expected)
    found = ExtremalIndex(
        estimate=theta,
        standard_error=estimate * log_error,
        lower=jnp.minimum(estimate / room, 1.0),
        upper=jnp.minimum(estimate * room, 1.0),
        variance_inflation=jnp.maximum(1.0 / theta, inflation),
        p_value=jnp.where(close > 0.0, p_value, 1.0),
        k=jnp.asarray(k, jnp.int32),
        threshold=threshold,
    )
    numbers = [jnp.where(is_usable, x, jnp.nan) for x in found[:6]]
    return ExtremalIndex(*numbers, *found[6:])


@quick_jit
def _of_rows(
    largest: jax.Array,
    when: jax.Array,
    size: jax.Array,
    k: jax.Array,
    blocks: jax.Array,
    z: jax.Array,
) -> ExtremalIndex:
    rows = largest, when, size
    return jax.lax.map(lambda row: _of_top(*row, k, blocks, z), rows)


def extremal_index_of_largest(
    largest: jax.Array, when: jax.Array, size: jax.Array, k: int, confidence: float
) -> ExtremalIndex:
    """The same of the k + 1 largest of each of several series.

    Args:
      largest: in descending order, shape (rows, m), m above k. Those after the first
        k + 1 mean nothing.
      when: at which of the draws they came, counted from zero. Same shape, int32.
      size: how many draws there were; int32, shape (rows,).
      k: how many to use.
      confidence: of the intervals.
    """
    z = normal_quantile(confidence, largest.dtype)
    blocks = as_traced(_num_blocks(k))
    return _of_rows(largest, when, size, as_traced(k), blocks, z)


def _largest_and_when(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` largest of each row, NaN first, the earlier first of equal ones."""
    top = np.empty((len(rows), count), rows.dtype)
    when = np.empty((len(rows), count), np.int32)
    for row, own_top, own_when in zip(rows, top, when, strict=True):
        key = np.where(np.isnan(row), np.inf, row)
        first = np.partition(key, -count)[-count]
        place = np.flatnonzero(key >= first)
        own_when[:] = place[np.argsort(-key[place], kind="stable")[:count]]
        own_top[:] = row[own_when]
    return top, when


@on_auto_axes
def extremal_index(
    series: npt.ArrayLike, k: int, *, axis: int | None = -1, confidence: float = 0.95
) -> ExtremalIndex:
    r"""How far the largest draws of a series come in clusters.

    With the gaps `T_i` between the times of the k largest draws,

    .. math::
      \hat\theta = \min\Bigl(1, \frac{2 (\sum_i (T_i - 1))^2}
        {(k - 1) \sum_i (T_i - 1)(T_i - 2)}\Bigr),

    or without -1 and -2 if no gap is above 2. Independent draws have theta = 1. With
    theta = 1/5, large draws come in clusters of five on average. The interval is
    log-normal, with the jackknife's standard error over the gaps. If all k draws come in
    one cluster, theta is 1, and only the p-value shows that they are not independent.

    Then an interval of the tail index, too, is too short. `variance_inflation` says by
    how much: it is the larger of `1 / theta` and

    .. math::
      \frac{m}{k} \operatorname{Var}_b \sum_{i \in b} \psi_i, \qquad
      \psi_i = \frac{1}{\hat\gamma} \log \frac{X_i}{X_{(k+1)}} - 1,

    the variance of Hill's estimate from sums over m = sqrt(k) blocks of time.

    Args:
      series: floating array in the order of time; do not sort it. Only the k + 1
        largest along the axis matter, and when they were drawn.
      k: how many of the largest draws to use, from 20 to n - 1.
      axis: the axis of time; None takes all axes together, in their order.
      confidence: confidence level of the interval, between 0 and 1.

    Returns:
      An `ExtremalIndex`; each field has the shape of the series without the axis. NaN
      if a draw is NaN or plus infinity, or half of the k largest equal the next.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if k, the axis or the confidence is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (10_001,))
      >>> pairs = jnp.maximum(draws[1:], draws[:-1])  # each large draw comes twice
      >>> result = hto.tail_index.extremal_index(pairs, 200)
      >>> bool(result.lower < 0.5 < result.upper), bool(result.p_value < 0.01)
      (True, True)
      >>> index = hto.tail_index.hill(
      ...     pairs, 200, variance_inflation=result.variance_inflation
      ... )
      >>> bool(index.lower < 1.5 < index.upper)
      True

    References:
      Ferro, Segers, "Inference for clusters of extreme values", JRSS B 65 (2003),
      equations 5 and 6; Hsing, "On tail index estimation using dependent data", Annals
      of Statistics 19 (1991), for the variance of Hill's estimate.
    """
    series = check_samples(_NAME, series, axis, FEWEST_OF_CLUSTERS + 1, "series")
    k = check_fewer_than(_NAME, "k", k, FEWEST_OF_CLUSTERS, series.shape[-1])
    check_confidence(_NAME, confidence)
    batch, size = series.shape[:-1], series.shape[-1]
    if is_on_host(series):
        rows = np.asarray(jax.device_get(series)).reshape(-1, size)
        room = [(0, 0), (0, rounded_up(k + 1) - k - 1)]
        found = _largest_and_when(rows, k + 1)
        device = series.sharding if series.committed else None
        top, when = (jax.device_put(np.pad(x, room), device) for x in found)
    else:
        top, when = jax.lax.top_k(series.reshape(-1, size), k + 1)
    sizes = jnp.asarray(np.full(len(top), size, np.int32))
    found = extremal_index_of_largest(top, when, sizes, k, confidence)
    return jax.tree.map(lambda x: x.reshape(batch), found)
