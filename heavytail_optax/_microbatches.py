"""Joins and cuts batches so that each part is spread over all devices.

If a batch is split over devices, consecutive examples are on one device. A part made of
consecutive examples would leave the other devices idle, and appended examples would
have to be sent. So a part takes every k-th example, and batches are joined in small
groups.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from heavytail_optax._sharding import num_shards


def shards_of(batch: Any) -> int:
    """The number of devices over which the types of the arrays split the examples."""
    return math.lcm(*(num_shards(x) for x in jax.tree.leaves(batch)))


def part_size(size: int, num_shards: int) -> int:
    """The number of examples of a part: `size`, in equal shares of each shard."""
    return max(num_shards, size - size % num_shards)


def grouped(x: jax.Array, num_groups: int) -> jax.Array:
    """Consecutive examples as one group each, shape=(num_groups, n/num_groups, ...)."""
    return x.reshape(num_groups, x.shape[0] // num_groups, *x.shape[1:])


def ungrouped(x: jax.Array) -> jax.Array:
    """The inverse of `grouped`."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def rows_of_shards(batch: Any, start: int, end: int, num_shards: int) -> Any:
    """Examples `start` up to but not including `end`, of every shard."""

    def of_leaf(x: jax.Array) -> jax.Array:
        of_shards = grouped(x, num_shards)
        return ungrouped(jax.lax.slice_in_dim(of_shards, start, end, axis=1))

    return jax.tree.map(of_leaf, batch)


def take(batch: Any, index: Any, num_parts: int, num_shards: int) -> Any:
    """One part: every `num_parts`-th example of each shard.

    Args:
      batch: arrays of shape=(num_parts * size, ...), size a multiple of `num_shards`.
      index: the number of the part, an integer; may be traced.
      num_parts: how many parts there are.
      num_shards: the number of equal shards into which devices split the examples.

    Returns:
      Arrays of shape=(size, ...).
    """

    def of_leaf(x: jax.Array) -> jax.Array:
        of_shards = grouped(x, num_shards)
        size = of_shards.shape[1] // num_parts
        lanes = of_shards.reshape(num_shards, size, num_parts, *x.shape[1:])
        return ungrouped(jax.lax.dynamic_index_in_dim(lanes, index, 2, keepdims=False))

    return jax.tree.map(of_leaf, batch)


def untake(parts: jax.Array, num_shards: int) -> jax.Array:
    """The inverse of `take`: all examples in their original order.

    Args:
      parts: what `take` gave for each index, shape=(num_parts, size, ...).
      num_shards: as for `take`.

    Returns:
      shape=(num_parts * size, ...).
    """
    num_parts, size, *rest = parts.shape
    lanes = parts.reshape(num_parts, num_shards, size // num_shards, *rest)
    return ungrouped(ungrouped(jnp.moveaxis(lanes, 0, 2)))


def join(*batches: jax.Array, num_groups: int | None = None) -> jax.Array:
    """All examples of some batches, in groups with an equal share of each batch.

    By default there are as many groups as possible. Then no device has to send an
    example, over however many devices each batch is split.
    """
    groups = num_groups or math.gcd(*(x.shape[0] for x in batches))
    return ungrouped(jnp.concatenate([grouped(x, groups) for x in batches], axis=1))


def first_of_joined(x: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """The examples of the first batch, from the result of `join`."""
    return rows_of_shards(x, 0, sizes[0] // math.gcd(*sizes), math.gcd(*sizes))
