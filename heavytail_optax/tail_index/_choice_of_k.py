"""What the automatic choices of k have in common: their result, and the top of a sample."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._result_text import short_repr
from heavytail_optax.tail_index._result import TailIndex
from heavytail_optax.tail_index._sums import sums
from heavytail_optax.tail_index._ties import equal_first, first_and_last_of_ties


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

    __repr__ = short_repr


class Top(NamedTuple):
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


def top_of(descending: jax.Array, num: jax.Array, max_k: jax.Array) -> Top:
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
    return Top(logs, total, first, last, jnp.where(tied > 1, tied, 0))


def each_row(choose: Callable, descending: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What is chosen for each row, in the shape of the batch."""
    batch, m = descending.shape[:-1], descending.shape[-1]
    if not batch:
        return choose(descending)
    found = jax.vmap(choose)(descending.reshape(-1, m))
    return jax.tree.map(lambda x: x.reshape(batch), found)
