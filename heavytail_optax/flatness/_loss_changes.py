"""Changes of a loss under random perturbations of the parameters."""

import functools

import jax
import jax.numpy as jnp

from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._keys import fold_in
from heavytail_optax._typing import Params, PyTree
from heavytail_optax._validation import check_count
from heavytail_optax.flatness._arguments import Loss
from heavytail_optax.flatness._memory import evaluations_at_once
from heavytail_optax.flatness._perturbation import add, deviations, normals


@functools.partial(jax.jit, static_argnames="loss_fn")
def loss_at(loss_fn: Loss, params: Params, args: tuple[PyTree, ...]) -> jax.Array:
    """The loss, in at least float32."""
    loss = loss_fn(params, *args)
    return loss.astype(computation_dtype(loss.dtype))


@functools.partial(
    jax.jit, static_argnames=("loss_fn", "num_samples", "adaptive", "at_once")
)
def loss_changes(
    loss_fn: Loss,
    params: Params,
    args: tuple[PyTree, ...],
    key: jax.Array,
    loss: jax.Array,
    stddev: jax.Array,
    floor: jax.Array,
    *,
    num_samples: int,
    adaptive: bool,
    at_once: int,
) -> jax.Array:
    """`L(theta + nu_i) - L(theta)` for each of the samples, shape=(num_samples,)."""
    size = jnp.where(stddev > 0.0, stddev, jnp.nan)
    scale = deviations(params, size, adaptive, floor)

    def change(index: jax.Array) -> jax.Array:
        noise = normals(fold_in(key, index), params)
        moved = add(params, jax.tree.map(jnp.multiply, scale, noise))
        return loss_fn(moved, *args).astype(loss.dtype) - loss

    return jax.lax.map(change, jnp.arange(num_samples), batch_size=at_once)


def check_samples_at_once(
    function: str,
    samples_at_once: int | None,
    num_samples: int,
    loss_fn: Loss,
    params: Params,
    args: tuple[PyTree, ...],
) -> int:
    """The number that the user asks for, or as many as fit in the memory budget.

    Raises:
      TypeError: if it is neither None nor an integer.
      ValueError: if it is smaller than one.
    """
    if samples_at_once is None:
        wanted = evaluations_at_once(loss_fn, params, *args)
    else:
        wanted = check_count(function, "samples_at_once", samples_at_once)
    return min(wanted, num_samples)


@jax.jit
def mean_and_standard_error(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean over samples, shape=(n,), and its standard error; NaN for one sample."""
    n = values.shape[0]
    spread = jnp.std(values, ddof=1) if n > 1 else jnp.full_like(values[0], jnp.nan)
    return jnp.mean(values), spread / n**0.5
