"""Random bits, and the uniforms, exponentials and normals made from them.

Each element gets 64 bits, a pure function of the key and the element's index if the
key's generator counts (`_counter_based.py`). `jax.random.bits` computes two or four
32-bit words per element and returns their exclusive or. A tail needs two of them,
because the largest Pareto draw grows as `2^(bits/alpha)`. The words are those of
`jax.random.bits`: the exclusive or of all is exactly its result.

Uniforms have full relative precision near zero, because small uniforms become the tail.
`jax.random.uniform` has steps of 2^-23 in float32, which ends a Pareto tail of index
1.4 at 2^(23/1.4) = 88205. An integer converted to floating point keeps its relative
precision, however small it is. So 64 bits reach down to 2^-65.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from heavytail_optax._counter_based import FOUR_WORDS, TWO_WORDS
from heavytail_optax._elementary import log2, negative_log, sin
from heavytail_optax._keys import key_words, settled
from heavytail_optax._typing import OutSharding

RESOLUTION_BITS = 65
"""The smallest uniform drawn here is 2^-65: 64 bits, and a half."""

SIGNED_RESOLUTION_BITS = 64
"""The smallest uniform if one of the 64 bits is the sign."""

_NUM_COUNTS = 2**32  # of one word


def _linear_index(
    shape: tuple[int, ...], dims: range, out_sharding: OutSharding
) -> jax.Array | None:
    """Row-major index over `dims`, broadcast to `shape`; None if always zero."""
    index, stride = None, 1
    for dim in reversed(dims):
        if shape[dim] > 1:
            position = jax.lax.broadcasted_iota(
                jnp.uint32, shape, dim, out_sharding=out_sharding
            )
            term = position if stride == 1 else position * jnp.uint32(stride)
            index = term if index is None else index + term
        stride *= shape[dim]
    return index


def _counters(
    shape: tuple[int, ...], out_sharding: OutSharding
) -> tuple[jax.Array, jax.Array]:
    """A pair of words that is different for each element.

    The low word counts the trailing dimensions whose product fits in 32 bits. The high
    word counts the dimensions before them. This needs no 64-bit integers, which JAX
    lacks by default. Each single dimension must fit in 32 bits.
    """
    split = len(shape)
    while split > 0 and math.prod(shape[split - 1 :]) <= _NUM_COUNTS:
        split -= 1
    high = _linear_index(shape, range(split), out_sharding)
    low = _linear_index(shape, range(split, len(shape)), out_sharding)
    zeros = jnp.zeros(shape, jnp.uint32, out_sharding=out_sharding)
    return (zeros if high is None else high, zeros if low is None else low)


def random_words(
    key: jax.Array,
    shape: tuple[int, ...],
    out_sharding: OutSharding = None,
    *,
    pair: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """Two independent uint32 words for each element.

    Args:
      key: a typed key. With Threefry and Philox keys the values do not depend on how
        the result is sharded. Other implementations use `jax.random.bits`.
      shape: shape of each result.
      out_sharding: sharding of the results under explicit sharding, or None.
      pair: 0 or 1. Each element has two independent pairs of words; this selects one.

    Returns:
      The high and the low words, uint32 arrays of shape `shape`.
    """
    implementation = str(jax.random.key_impl(key))
    if implementation in TWO_WORDS:
        high, low = _counters(shape, out_sharding)
        # No array in memory reaches this bit: it would have 2^63 elements.
        high = high if pair == 0 else high | jnp.uint32(2**31)
        words = TWO_WORDS[implementation](key_words(settled(key)), (high, low))
        return words[0], words[1]
    if implementation in FOUR_WORDS:
        zeros = jnp.zeros(shape, jnp.uint32, out_sharding=out_sharding)
        counter = (*_counters(shape, out_sharding), zeros, zeros)
        # XLA computes them once, if a tail takes both pairs.
        words = FOUR_WORDS[implementation](key_words(settled(key)), counter)
        return words[2 * pair], words[2 * pair + 1]
    high_key, low_key = jax.random.split(key, 4)[2 * pair : 2 * pair + 2]
    return (
        jax.random.bits(high_key, shape, jnp.uint32, out_sharding=out_sharding),
        jax.random.bits(low_key, shape, jnp.uint32, out_sharding=out_sharding),
    )


def uniform_from_words(high: jax.Array, low: jax.Array, dtype) -> jax.Array:
    """A uniform in (0, 1] from 64 bits, at full relative precision near zero.

    `u = high 2^-32 + (low + 1/2) 2^-64`.
    """
    coarse = high.astype(dtype) * jnp.asarray(2.0**-32, dtype)
    fine = (low.astype(dtype) + jnp.asarray(0.5, dtype)) * jnp.asarray(2.0**-64, dtype)
    return coarse + fine


def signed_uniform_from_words(
    high: jax.Array, low: jax.Array, dtype
) -> tuple[jax.Array, jax.Array]:
    """A fair sign, and a uniform in (0, 1] from the other 63 bits.

    Returns:
      A boolean array that is true for the positive sign, and the uniform.
    """
    is_positive = (low & jnp.uint32(1)) == jnp.uint32(1)
    coarse = high.astype(dtype) * jnp.asarray(2.0**-32, dtype)
    # The odd number `low | 1` is twice (the other 31 bits plus a half).
    fine = (low | jnp.uint32(1)).astype(dtype) * jnp.asarray(2.0**-64, dtype)
    return is_positive, coarse + fine


def exponential_from_words(high: jax.Array, low: jax.Array, dtype) -> jax.Array:
    """A standard exponential, at full relative precision near zero and far out.

    `-log(u)` alone has a step of 2^-24 near zero, where u is close to one. There it is
    computed from `1 - u` instead, which the complement of the bits gives exactly.
    """
    return negative_log(
        uniform_from_words(high, low, dtype), uniform_from_words(~high, ~low, dtype)
    )


def direction_normals(
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Standard normals by the Box-Muller map, never zero and at most 6.8.

    One word gives the radius `sqrt(-2 log u)`, the other the angle. Only the cosine of
    the angle is used. This takes half the time of inverting the error function.

    Args:
      key: a typed key.
      shape: shape of the result.
      dtype: float32 or float64.
      out_sharding: sharding of the result under explicit sharding, or None.

    Returns:
      An array of that shape and dtype.

    References:
      Box, Muller, "A note on the generation of random normal deviates", Ann. Math.
      Stat. 29 (1958).
    """
    high, low = random_words(key, shape, out_sharding)
    half = jnp.asarray(0.5, dtype)
    share = (high.astype(dtype) + half) * jnp.asarray(2.0**-32, dtype)
    largest = jnp.asarray(1.0 - 2.0**-24, dtype)
    radius = jnp.sqrt(-2.0 * math.log(2.0) * log2(jnp.minimum(share, largest)))
    # Turns in (-1/2, 1/2), at half-odd multiples of 2^-24, so never a quarter turn.
    signed = jax.lax.bitcast_convert_type(low, jnp.int32) >> jnp.int32(8)
    turn = (signed.astype(dtype) + half) * jnp.asarray(2.0**-24, dtype)
    return radius * sin(2.0 * math.pi * (0.25 - jnp.abs(turn)))
