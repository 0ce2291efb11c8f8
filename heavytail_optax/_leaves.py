"""Leaves of an update: what dtypes are accepted, and how noise is added to one."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from heavytail_optax._finite import largest_finite
from heavytail_optax._typing import PyTree
from heavytail_optax._uniform import computation_dtype
from heavytail_optax._validation import type_error


def check_leaves(
    function: str,
    leaves: Sequence[PyTree],
    *,
    allow_complex: bool,
    argument: str = "updates",
) -> list[jax.Array]:
    """The leaves as arrays.

    Raises:
      TypeError: if one is not a floating array, or complex where that is refused.
    """
    accepted = "a pytree of floating" + (" or complex" * allow_complex) + " arrays"
    kind = jnp.inexact if allow_complex else jnp.floating
    arrays = []
    for leaf in leaves:
        dtype = getattr(leaf, "dtype", None)
        if dtype is None and isinstance(leaf, (float, complex)):
            dtype = jnp.result_type(leaf)
        if dtype is None or not jnp.issubdtype(dtype, kind):
            raise type_error(f"{function}.update", argument, accepted, leaf)
        arrays.append(jnp.asarray(leaf))
    return arrays


def add_noise(x: jax.Array, noise: jax.Array) -> jax.Array:
    """`x + noise` in the dtype of x; a finite x stays finite, an infinite one as it is.

    The sum is formed in float32 at least, and saturates at the dtype's largest value.
    """
    wide = computation_dtype(x.dtype)
    bound = jnp.asarray(largest_finite(x.dtype), wide)
    total = x.astype(wide) + noise.astype(wide)
    finite = jnp.where(jnp.isinf(x), total, jnp.clip(total, -bound, bound))
    return finite.astype(x.dtype)
