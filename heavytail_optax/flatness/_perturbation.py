"""Random perturbations of a pytree of parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from heavytail_optax._norm import ScaledNorm, tree_norm


def in_float(params: Any) -> Any:
    """The parameters in float32, or wider where they are wider."""
    return jax.tree.map(
        lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), params
    )


def add(params: Any, change: Any) -> Any:
    """`params + change`, summed in the wider dtype, in the dtypes of the parameters."""
    return jax.tree.map(lambda x, u: (x + u).astype(x.dtype), params, change)


def normals(key: jax.Array, params: Any) -> Any:
    """An independent standard normal for every parameter, in float32 or wider."""
    leaves, structure = jax.tree.flatten(in_float(params))
    draws = [
        jax.random.normal(jax.random.fold_in(key, index), x.shape, x.dtype)
        for index, x in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, draws)


def deviations(
    params: Any, stddev: jax.Array, adaptive: bool, floor: jax.Array | float
) -> Any:
    """The standard deviation of the noise on every parameter.

    Args:
      params: the parameters w, of any floating dtype.
      stddev: sigma, shape=().
      adaptive: whether the noise is in proportion to the weights.
      floor: epsilon, shape=(), for `adaptive`.

    Returns:
      Sigma for every parameter, or `sqrt(sigma^2 w^2 + epsilon^2)` where adaptive.
    """

    def of_leaf(x: jax.Array) -> jax.Array:
        size = stddev.astype(x.dtype)
        if not adaptive:
            return jnp.full(x.shape, size)
        return jnp.hypot(size * jnp.abs(x), jnp.asarray(floor, x.dtype))

    return jax.tree.map(of_leaf, in_float(params))


def norm_of(tree: Any) -> ScaledNorm:
    """The Euclidean norm over all entries, without overflow or underflow."""
    leaves = jax.tree.leaves(tree)
    return tree_norm(leaves, [()] * len(leaves))


def unit(tree: Any) -> Any:
    """The direction of a tree: its norm is one, or zero if every entry is zero."""
    norm = norm_of(tree)
    inverse = jnp.where(norm.scaled_norm == 0.0, 0.0, norm.scale / norm.scaled_norm)
    return jax.tree.map(lambda x: x * inverse.astype(x.dtype), tree)
