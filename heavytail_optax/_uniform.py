"""Uniforms with full relative precision near zero: where every tail comes from.

`jax.random.uniform` has 2^-23 steps in float32, which ends a Pareto tail of index 1.4
at 2^(23/1.4) = 88205. Integer bits converted to floating point keep their relative
precision however small they are, so 64 bits reach down to 2^-65.
"""

import jax
import jax.numpy as jnp

from heavytail_optax._elementary import negative_log

RESOLUTION_BITS = 65
"""The smallest uniform drawn here is 2^-65: 64 bits, and a half."""

SIGNED_RESOLUTION_BITS = 64
"""The same where one of the 64 bits is the sign."""


def computation_dtype(dtype) -> jnp.dtype:
    """The dtype to draw in: at least float32, since half precision has no tail."""
    return jnp.promote_types(dtype, jnp.float32)


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
      A boolean array, true for the positive sign, and the uniform.
    """
    is_positive = (low & jnp.uint32(1)) == jnp.uint32(1)
    coarse = high.astype(dtype) * jnp.asarray(2.0**-32, dtype)
    # The odd number `low | 1` is twice the other 31 bits and a half.
    fine = (low | jnp.uint32(1)).astype(dtype) * jnp.asarray(2.0**-64, dtype)
    return is_positive, coarse + fine


def exponential_from_words(high: jax.Array, low: jax.Array, dtype) -> jax.Array:
    """A standard exponential, at full relative precision near zero and far out.

    `-log(u)` alone has a step of 2^-24 near zero, where u is close to one. There the
    uniform is measured from one instead, `1 - u` being the complement of the bits.
    """
    return negative_log(
        uniform_from_words(high, low, dtype), uniform_from_words(~high, ~low, dtype)
    )
