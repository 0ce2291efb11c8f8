"""Ties of the largest draw: how many there are, and whether draws were cut off."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._pytrees import vary_like
from heavytail_optax.tail_index._arguments import check_samples
from heavytail_optax.tail_index._order_statistics import are_few_of_many, largest
from heavytail_optax.tail_index._sums import running, sums

# Clipped norms are equal only up to a few units in the last place, often of float32
# even if they are float64 now. Far from zero, that is much of the spread of float64
# draws.
_UNITS = 8.0
_OF_SPREAD = 2.0**-20
# A cap has at least this many equal draws. Two are equal by chance too often: in every
# third sample drawn with replacement.
_FEWEST_OF_CAP = 3
# It also has more than twice as many as are equal at any of the next values.
_NEXT_VALUES = 8


class Ties(NamedTuple):
    """Ties of the largest draw, up to rounding.

    Attributes:
      count: how many draws equal the largest, itself included. dtype=int32.
      is_cap: whether there are three or more, and more than twice as many as equal any
        of the next eight values. (Draws that were rounded, or drawn with replacement,
        are equal at those values, too.) False if all examined draws are equal, or one
        is infinite or NaN. dtype=bool.
    """

    count: jax.Array
    is_cap: jax.Array


def _room(top: jax.Array, least: jax.Array) -> jax.Array:
    """The largest difference from `top` at which a draw still counts as equal."""
    size = jnp.abs(top)
    spread = jnp.minimum(top - least, size)
    room = jnp.maximum(_UNITS * jnp.finfo(top.dtype).eps * size, _OF_SPREAD * spread)
    return jnp.where(jnp.isfinite(room), room, 0.0)


def _is_cap(count, most_next, num, top) -> jax.Array:
    is_cap = (count >= _FEWEST_OF_CAP) & (count > 2 * most_next) & (count < num)
    return is_cap & jnp.isfinite(top)


def _counted(draws: jax.Array, num: jax.Array | int) -> Ties:
    top = jnp.max(draws, axis=-1, keepdims=True)
    room = _room(top, jnp.min(draws, axis=-1, keepdims=True))
    is_largest = draws >= top - room
    rest, most_next = jnp.where(is_largest, -jnp.inf, draws), 0
    for _ in range(_NEXT_VALUES):
        is_next = rest >= jnp.max(rest, axis=-1, keepdims=True) - room
        is_next &= rest > -jnp.inf
        most_next = jnp.maximum(most_next, jnp.sum(is_next, axis=-1, dtype=jnp.int32))
        rest = jnp.where(is_next, -jnp.inf, rest)
    count = jnp.sum(is_largest, axis=-1, dtype=jnp.int32)
    count = jnp.clip(count, 1, jnp.maximum(num, 1)).astype(jnp.int32)
    most_next = jnp.minimum(most_next, num - count)
    # On a CPU, the maximum over one of several axes may ignore NaN.
    is_cap = _is_cap(count, most_next, num, top[..., 0])
    return Ties(count, is_cap & ~jnp.any(jnp.isnan(draws), axis=-1))


# One program per shape: compiling the operations one by one takes far longer.
@jax.jit
def ties_of_largest(draws: jax.Array, num: jax.Array | int) -> Ties:
    """The ties of the largest draw among the `num` largest.

    Args:
      draws: draws in any order along the last axis, including the `num` largest.
      num: how many to examine; an integer, or int32 of the shape of the batch.
    """
    draws = jax.lax.stop_gradient(draws)
    if not are_few_of_many(2, draws.shape[-1]):
        return _counted(draws, num)
    # With many draws, finding the two largest is far faster than counting all.
    top = largest(draws, 2)
    least = jnp.min(draws, axis=-1, keepdims=True)
    is_tied = top[..., 1] >= (top[..., :1] - _room(top[..., :1], least))[..., 0]
    # Made from the draws, so that both branches have the same type inside `shard_map`.
    none = Ties(1 + 0 * is_tied.astype(jnp.int32), is_tied & False)
    return jax.lax.cond(jnp.any(is_tied), lambda: _counted(draws, num), lambda: none)


def _room_of_first(descending: jax.Array, num: jax.Array) -> jax.Array:
    last = jnp.take_along_axis(descending, jnp.maximum(num - 1, 0)[..., None], axis=-1)
    return _room(descending[..., :1], last)


def equal_first(descending: jax.Array, num: jax.Array) -> jax.Array:
    """Which of the first `num` of draws in descending order equal the largest."""
    place = jax.lax.broadcasted_iota(jnp.int32, descending.shape, descending.ndim - 1)
    num = jnp.broadcast_to(num, descending.shape[:-1])
    room = _room_of_first(descending, num)
    return (place < num[..., None]) & (descending >= descending[..., :1] - room)


def ties_of_first(descending: jax.Array, num: jax.Array | int) -> Ties:
    """The same among the first `num` of draws in descending order.

    Args:
      descending: shape (..., m).
      num: at most m; an integer, or int32 of the shape of the batch.
    """
    descending = jax.lax.stop_gradient(descending)
    num = jnp.broadcast_to(jnp.asarray(num, jnp.int32), descending.shape[:-1])
    rank = jax.lax.broadcasted_iota(jnp.int32, descending.shape, descending.ndim - 1)
    is_among = (rank < num[..., None]) & (descending > -jnp.inf)
    room = _room_of_first(descending, num)

    def count(step, state):
        """The number of draws equal to the first that was not counted yet."""
        start, of_top, most_next = state
        at = jnp.minimum(start, descending.shape[-1] - 1)[..., None]
        value = jnp.take_along_axis(descending, at, axis=-1)
        is_equal = is_among & (rank >= start[..., None]) & (descending >= value - room)
        (equal,) = sums(is_equal.astype(jnp.int32))
        is_first = step == 0
        of_top = jnp.where(is_first, jnp.maximum(equal, 1), of_top)
        most_next = jnp.where(is_first, 0, jnp.maximum(most_next, equal))
        return start + jnp.maximum(equal, 1), of_top, most_next

    start = vary_like((jnp.zeros_like(num),) * 3, descending[..., 0])
    _, of_top, most_next = jax.lax.fori_loop(0, 1 + _NEXT_VALUES, count, start)
    return Ties(of_top, _is_cap(of_top, most_next, num, descending[..., 0]))


def equals_of(
    descending: jax.Array, rank: jax.Array, num: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The positions of the first and the last draw equal to that of a rank.

    Args:
      descending: draws in descending order, shape (..., m).
      rank: int32, of the shape of the batch, below `num`.
      num: how many of the draws count, at most m; int32 of the shape of the batch.
    """
    value = jnp.take_along_axis(descending, rank[..., None], axis=-1)
    place = jax.lax.broadcasted_iota(jnp.int32, descending.shape, descending.ndim - 1)
    is_draw = place < num[..., None]
    are_above = (is_draw & x for x in (descending > value, descending >= value))
    before, until = sums(*(x.astype(jnp.int32) for x in are_above))
    return before, until - 1


def first_and_last_of_ties(
    descending: jax.Array, num: jax.Array, values: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For each draw, the positions of the first and the last draw equal to it.

    Args:
      descending: draws in descending order, shape (m,).
      num: how many of them count; int32.
      values: shape (m,).

    Returns:
      Both positions, counted from zero, and the running sum of the values, for which
      the loop has room.
    """
    most = descending.shape[0] - 1
    place = jnp.arange(most + 1, dtype=jnp.int32)
    is_new = (descending[1:] != descending[:-1]) | (place[1:] >= num)
    starts = jnp.where(jnp.pad(is_new, (1, 0)), place, 0)
    ends = jnp.where(jnp.pad(is_new, (0, 1)), most - place, 0)
    total, found = running(values, jnp.stack([starts, jnp.flip(ends)]))
    return found[0], most - jnp.flip(found[1]), total


def parting_no_ties(
    k: jax.Array,
    first: jax.Array,
    last: jax.Array,
    is_known: jax.Array,
    least: jax.Array | int,
) -> jax.Array:
    """The number of largest draws closest to k, in ratio, that splits no equal draws.

    That is, the next largest draw is the last of its equals.

    Args:
      k: int32, of the shape of the batch.
      first: the position of the first of the draws that equal that of position k.
      last: that of the last.
      is_known: whether it is the last of all draws.
      least: the smallest number to return; k, if there is no other.
    """
    before = first - 1
    is_nearer = (before > 0) & (last / k > k / jnp.maximum(before, 1))
    after = jnp.where(is_known, last, k)
    return jnp.where(
        (before >= least) & (is_nearer | jnp.logical_not(is_known)), before, after
    )


@on_auto_axes
def num_tied(samples: npt.ArrayLike, *, axis: int | None = -1) -> jax.Array:
    r"""How many of the largest draws are equal: 1 for a continuous law.

    .. math:: m = \#\{i : X_i \ge X_{(1)} - 2^{-20} |X_{(1)}|\},

    that is, equal up to a millionth, because clipped norms are equal only up to
    rounding. (For float64 draws far from zero: up to a millionth of their spread.)
    Several equal largest draws mean that larger values were cut off, that the draws are
    rounded, or that they were drawn with replacement. They count as cut off if there
    are three or more, and more than twice as many as are equal at any of the next eight
    values. No estimator here gives an interval for these, because the law farther out
    was not seen.

    Args:
      samples: floating array. Pass absolute values if both sides matter.
      axis: the axis of the draws; None takes all axes together.

    Returns:
      An int32 array of the shape of the samples without the axis. At least 1.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the axis is out of range, or there are fewer than two draws.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (1000,))
      >>> clipped = jnp.minimum(draws, jnp.sort(draws)[-20])
      >>> print(hto.tail_index.num_tied(draws), hto.tail_index.num_tied(clipped))
      1 20
    """
    samples = check_samples("num_tied", samples, axis)
    return ties_of_largest(samples, samples.shape[-1]).count
