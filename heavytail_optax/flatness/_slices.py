"""Losses at points given by directions and coefficients."""

import functools

import jax

from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._typing import Params, PyTree
from heavytail_optax._validation import value_error
from heavytail_optax.flatness._arguments import Loss, check_params
from heavytail_optax.flatness._directions import like_params
from heavytail_optax.flatness._perturbation import add, in_float


def losses_at(
    loss_fn: Loss,
    params: Params,
    directions: tuple[PyTree, ...],
    coefficients: jax.Array,
    args: tuple[PyTree, ...],
    at_once: int,
) -> jax.Array:
    """The loss at `theta + sum_k c_k d_k`.

    Args:
      loss_fn: the loss L.
      params: theta.
      directions: k pytrees like it, wide.
      coefficients: c, shape=(n, k).
      args: of the loss.
      at_once: how many points side by side.

    Returns:
      float32 at least, shape=(n,).
    """

    def at(c: jax.Array) -> jax.Array:
        change = jax.tree.map(
            lambda *d: sum(c[k].astype(x.dtype) * x for k, x in enumerate(d)),
            *directions,
        )
        loss = loss_fn(add(params, change), *args)
        return loss.astype(computation_dtype(loss.dtype))

    return jax.lax.map(at, coefficients, batch_size=at_once)


compiled_losses_at = functools.partial(jax.jit, static_argnames=("loss_fn", "at_once"))(
    losses_at
)


def check_vector(
    function: str, argument: str, vector: PyTree, params: Params
) -> PyTree:
    """A pytree like the parameters, in float32 or wider.

    Raises:
      TypeError: if a leaf is not floating.
      ValueError: if structure or shapes differ from those of the parameters.
    """
    accepted = "a pytree of floating arrays like `params`"
    vector = check_params(function, vector, argument, accepted)
    if not like_params(vector, params):
        raise value_error(function, argument, accepted, vector)
    return in_float(vector)
