"""Standard normals for random directions, where 24 bits an element are enough."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from heavytail_optax._random_bits import is_threefry, random_words


def direction_normals(
    key: jax.Array, shape: tuple[int, ...], dtype: Any, out_sharding: Any = None
) -> jax.Array:
    """Standard normals as `jax.random.normal` makes them, from unrolled random words.

    In float32 and with a threefry key: the inverse of the error function at a uniform
    of 24 bits, symmetric about zero and never zero. Otherwise `jax.random.normal`.

    Args:
      key: a typed key.
      shape: shape of the result.
      dtype: float32 or float64.
      out_sharding: sharding of the result under explicit sharding, or None.

    Returns:
      An array of that shape and dtype.
    """
    if dtype != jnp.float32 or not is_threefry(key):
        return jax.random.normal(key, shape, dtype, out_sharding=out_sharding)
    high, low = random_words(key, shape, out_sharding)
    signed = jax.lax.bitcast_convert_type(high ^ low, jnp.int32) >> jnp.int32(8)
    uniform = (signed.astype(jnp.float32) + jnp.float32(0.5)) * jnp.float32(2.0**-23)
    return jnp.float32(math.sqrt(2.0)) * jax.lax.erf_inv(uniform)
