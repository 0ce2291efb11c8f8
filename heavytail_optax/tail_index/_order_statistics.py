"""The largest draws of a sample, by a partial sort or without sorting."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._pytrees import vary_like

# Below this size, or above this share, a plain search is as fast.
_MANY_DRAWS = 2**16
_FEW_OF_THEM = 64


def are_few_of_many(count: int, size: int) -> bool:
    """Whether a search for the `count` largest of `size` draws goes block by block."""
    return size >= _MANY_DRAWS and count * _FEW_OF_THEM <= size


def _maxima(blocks: jax.Array) -> jax.Array:
    """The maximum of each block, by halving.

    On a CPU, `jnp.max` over one of several axes may ignore NaN.

    Args:
      blocks: shape (..., length), where length is a power of two.
    """
    while blocks.shape[-1] > 1:
        half = blocks.shape[-1] // 2
        blocks = jnp.maximum(blocks[..., :half], blocks[..., half:])
    return blocks[..., 0]


def _top(samples: jax.Array, count: int) -> jax.Array:
    # A NaN with its sign bit set, such as `inf - inf`, counts as smaller than all
    # others.
    samples = jnp.where(jnp.isnan(samples), jnp.nan, samples)
    # If the result is sliced, XLA for CPUs sorts everything that was searched, which
    # takes five times as long. The barrier separates the slice from the search.
    return jax.lax.optimization_barrier(jax.lax.top_k(samples, count)[0])


@functools.partial(jax.jit, static_argnames="count")
def largest(samples: jax.Array, count: int) -> jax.Array:
    """The `count` largest draws along the last axis, in descending order.

    A NaN counts as larger than everything, so it is never missed.

    The `count` largest of many draws are in the `count` blocks with the largest maxima.
    So one pass finds the maximum of each block. A search among these maxima and a
    search in the chosen blocks do the rest. Ten million draws take 10 ms on a CPU; one
    search of them all takes 40 ms, and a sort a second or more.
    """
    size = samples.shape[-1]
    if not are_few_of_many(count, size):
        return _top(samples, count)
    # At the root of their ratio both searches look at equally many numbers. Beyond 128,
    # the halving of the blocks is no longer one loop.
    length = 2 ** min(7, round(np.log2(size / count) / 2))
    num_blocks = size // length
    batch = samples.shape[:-1]
    whole = jax.lax.stop_gradient(samples[..., : num_blocks * length])
    maxima = _maxima(whole.reshape(*batch, num_blocks, length))
    maxima = jnp.where(jnp.isnan(maxima), jnp.nan, maxima)
    blocks = jax.lax.top_k(maxima, count)[1]
    place = jax.lax.broadcasted_iota(blocks.dtype, (*blocks.shape, length), blocks.ndim)
    index = blocks[..., None] * length + place
    chosen = jnp.take_along_axis(
        samples, index.reshape(*batch, count * length), axis=-1
    )
    left_over = samples[..., num_blocks * length :]
    return _top(jnp.concatenate([chosen, left_over], axis=-1), count)


def order_statistic(samples: jax.Array, rank: jax.Array) -> jax.Array:
    """The exact draw of a given rank, without sorting; zero if it is not positive.

    The bits of positive floating numbers, read as integers, have the same order as the
    numbers. So the value is found bit by bit, in 31 counting passes (63 in float64) for
    every rank; the rank may be traced. On a CPU, XLA sorts ten million numbers in
    seconds to half a minute, and counts them in milliseconds.

    Args:
      samples: shape (..., n).
      rank: 0 for the largest; int32, shape () or that of the batch.

    Returns:
      Shape (...). Its derivative is that of the selected draw.
    """
    bits = {4: jnp.uint32, 8: jnp.uint64}[samples.dtype.itemsize]
    is_counted = (samples > 0.0) | jnp.isnan(samples)
    keys = jax.lax.bitcast_convert_type(jnp.abs(samples), bits)
    keys = jnp.where(is_counted, keys, 0)
    wanted = jnp.broadcast_to(rank + 1, samples.shape[:-1])
    highest_bit = 8 * samples.dtype.itemsize - 2  # below the sign

    def set_bit(step, found):
        candidate = found | (jnp.asarray(1, bits) << (highest_bit - step).astype(bits))
        count = jnp.sum(keys >= candidate[..., None], axis=-1, dtype=jnp.int32)
        return jnp.where(count >= wanted, candidate, found)

    found = vary_like(jnp.zeros(samples.shape[:-1], bits), samples[..., 0])
    found = jax.lax.fori_loop(0, highest_bit + 1, set_bit, found)
    value = jax.lax.bitcast_convert_type(found, samples.dtype)
    is_below = samples <= value[..., None]
    at_or_below = jnp.max(jnp.where(is_below, samples, 0.0), axis=-1)
    return jnp.where(jnp.isfinite(value), at_or_below, value)
