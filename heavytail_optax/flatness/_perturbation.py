"""Random perturbations of a pytree of parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from heavytail_optax._dtypes import accumulation_dtype, computation_dtype
from heavytail_optax._keys import fold_in
from heavytail_optax._sharding import explicit_sharding
from heavytail_optax._typing import Params, PyTree
from heavytail_optax.flatness._arguments import Loss


def in_float(params: Params) -> PyTree:
    """The parameters in float32, or in their own dtype if it is wider."""
    return jax.tree.map(lambda x: x.astype(computation_dtype(x.dtype)), params)


def wide_loss(loss_fn: Loss, params: Params) -> Loss:
    """The loss as a function of wide parameters; it gets them in their own dtypes."""
    dtypes = jax.tree.map(lambda x: x.dtype, params)

    def loss(point: PyTree, *args: PyTree) -> jax.Array:
        own = jax.tree.map(lambda x, dtype: x.astype(dtype), point, dtypes)
        return loss_fn(own, *args)

    return loss


def add(params: Params, change: PyTree) -> PyTree:
    """`params + change`, summed in the wider dtype and cast to those of `params`."""
    return jax.tree.map(lambda x, u: (x + u).astype(x.dtype), params, change)


def _draws(key: jax.Array, params: Params, draw: Callable[..., jax.Array]) -> PyTree:
    """A draw for every parameter, sharded like it, in float32 or wider."""
    leaves, structure = jax.tree.flatten(in_float(params))
    draws = [
        draw(
            fold_in(key, index),
            x.shape,
            x.dtype,
            out_sharding=explicit_sharding(x),
        )
        for index, x in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, draws)


def normals(key: jax.Array, params: Params) -> PyTree:
    """An independent standard normal for every parameter, in float32 or wider."""
    return _draws(key, params, jax.random.normal)


def signs(key: jax.Array, params: Params) -> PyTree:
    """An independent fair sign, +1 or -1, for every parameter, in float32 or wider."""
    return _draws(key, params, jax.random.rademacher)


def deviations(
    params: Params, stddev: jax.Array, adaptive: bool, floor: jax.Array | float
) -> PyTree:
    """The standard deviation of the noise on every parameter.

    Args:
      params: the parameters w, of any floating dtype.
      stddev: sigma, shape=().
      adaptive: whether the noise is proportional to the weights.
      floor: epsilon, shape=(), for `adaptive`.

    Returns:
      Sigma for every parameter, or `sqrt(sigma^2 w^2 + epsilon^2)` if `adaptive`.
    """

    def of_leaf(x: jax.Array) -> jax.Array:
        size = stddev.astype(x.dtype)
        if not adaptive:
            return jnp.full_like(x, size)
        return jnp.hypot(size * jnp.abs(x), jnp.asarray(floor, x.dtype))

    return jax.tree.map(of_leaf, in_float(params))


def _scaled(tree: PyTree) -> tuple[PyTree, jax.Array, jax.Array]:
    """The tree divided by its largest entry, the norm of the result, and that entry."""
    leaves = jax.tree.leaves(tree)
    dtype = accumulation_dtype(leaves)
    # Not the norm of the transformations, which saves time by a conditional. Under
    # `vmap`, as here, both branches would be computed, and JAX refuses it on arrays
    # whose types are sharded.
    sizes = [jnp.max(jnp.abs(x), initial=0.0).astype(dtype) for x in leaves]
    largest = jnp.max(jnp.stack(sizes))
    divisor = jnp.where(largest == 0.0, 1.0, largest)
    scaled = jax.tree.map(lambda x: x / divisor.astype(x.dtype), tree)
    squares = [jnp.sum(x * x, dtype=dtype) for x in jax.tree.leaves(scaled)]
    return scaled, jnp.sqrt(sum(squares)), largest


def norm(tree: PyTree) -> jax.Array:
    """The Euclidean norm over all entries, even if their squares over- or underflow."""
    _, scaled_norm, largest = _scaled(tree)
    return scaled_norm * largest


def unit(tree: PyTree) -> PyTree:
    """The tree scaled to norm one; zero if every entry is zero."""
    scaled, size, _ = _scaled(tree)
    inverse = jnp.where(size == 0.0, 0.0, 1.0 / size)
    return jax.tree.map(lambda x: x * inverse.astype(x.dtype), scaled)
