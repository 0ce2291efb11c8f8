"""The dtypes to compute and to sum in, and casts that stay finite."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def computation_dtype(dtype: DTypeLike) -> jnp.dtype:
    """The dtype to compute in: at least float32, since half precision has no tail."""
    return jnp.promote_types(dtype, jnp.float32)


def accumulation_dtype(leaves: Sequence[jax.Array]) -> jnp.dtype:
    """The real dtype to sum in: the widest of the leaves, float32 at least."""
    dtype = jnp.dtype(jnp.float32)
    for leaf in leaves:
        dtype = jnp.promote_types(dtype, jnp.finfo(leaf.dtype).dtype)
    return dtype


def largest_finite(dtype: DTypeLike) -> float:
    """The largest finite value of the dtype that JAX gives for `dtype`."""
    return float(jnp.finfo(jax.dtypes.canonicalize_dtype(dtype)).max)


def saturate(x: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Clips `x` to the finite range of `dtype` and casts it; NaN stays NaN.

    `optax.apply_if_finite` restores the inner state after a bad step. The same step
    then draws the same noise again, so an infinite draw would stall training forever.
    """
    bound = jnp.asarray(largest_finite(dtype), x.dtype)
    return jnp.clip(x, -bound, bound).astype(dtype)
