"""Saturating casts: a draw beyond a dtype's range becomes its largest finite value.

`optax.apply_if_finite` restores the inner state after a bad step, so the same step
draws the same noise again: an infinite draw would stall training for good.
"""

import jax
import jax.numpy as jnp


def largest_finite(dtype) -> float:
    """The largest finite value of the dtype that JAX gives for `dtype`."""
    return float(jnp.finfo(jax.dtypes.canonicalize_dtype(dtype)).max)


def saturate(x: jax.Array, dtype) -> jax.Array:
    """Clips `x` to the finite range of `dtype` and casts it; NaN stays NaN."""
    bound = jnp.asarray(largest_finite(dtype), x.dtype)
    return jnp.clip(x, -bound, bound).astype(dtype)
