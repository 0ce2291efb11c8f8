"""Standard normals for random directions: two words an element, no inverse function."""

import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from heavytail_optax._elementary import log2, sin
from heavytail_optax._random_bits import random_words
from heavytail_optax._typing import OutSharding


def direction_normals(
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Standard normals by the map of Box and Muller, never zero, at most 6.8.

    One word makes the radius `sqrt(-2 log u)`, the other the angle, of which only the
    cosine is used: half of the time of inverting the error function.

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
    # Turns in (-1/2, 1/2), at half-odd multiples of 2^-24: never a quarter.
    signed = jax.lax.bitcast_convert_type(low, jnp.int32) >> jnp.int32(8)
    turn = (signed.astype(dtype) + half) * jnp.asarray(2.0**-24, dtype)
    return radius * sin(2.0 * math.pi * (0.25 - jnp.abs(turn)))
