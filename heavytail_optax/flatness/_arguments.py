"""Checks of the arguments that every measure takes: a loss, parameters and data."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from heavytail_optax._typing import Params, PyTree, Scalar
from heavytail_optax._validation import (
    check_not_negative,
    type_error,
    value_error,
)

Loss = Callable[..., Any]

_PARAMS = "a pytree of floating arrays, at least one entry in all"
_ARGS = "a tuple of pytrees whose arrays are not empty"
_LOSS = "a function of (params, *args) that returns one floating scalar"
_FINITE_LOSS = f"{_LOSS}, finite at `params`"


def check_params(
    function: str, params: Params, argument: str = "params", accepted: str = _PARAMS
) -> PyTree:
    """The parameters with every leaf an array.

    Raises:
      TypeError: if a leaf is not a real floating array or number.
      ValueError: if there is no entry.
    """

    def as_array(leaf: PyTree) -> jax.Array:
        dtype = getattr(leaf, "dtype", None)
        if dtype is None and isinstance(leaf, float):
            dtype = jnp.result_type(leaf)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise type_error(function, argument, accepted, leaf)
        return jnp.asarray(leaf)

    arrays = jax.tree.map(as_array, params)
    if not sum(leaf.size for leaf in jax.tree.leaves(arrays)):
        raise value_error(function, argument, accepted, params)
    return arrays


def check_args(function: str, args: Sequence[PyTree]) -> tuple[PyTree, ...]:
    """The arguments of the loss after the parameters, as a tuple.

    Raises:
      TypeError: if it is not a tuple or list.
      ValueError: if an array in it has no entries.
    """
    if not isinstance(args, (tuple, list)):
        raise type_error(function, "args", _ARGS, args)
    for leaf in jax.tree.leaves(args):
        if hasattr(leaf, "dtype") and hasattr(leaf, "shape") and 0 in leaf.shape:
            raise value_error(function, "args", _ARGS, leaf)
    return tuple(args)


def check_loss(
    function: str,
    loss_fn: Loss,
    params: Params,
    args: tuple[PyTree, ...],
    argument: str = "loss_fn",
) -> Loss:
    """A hashable loss. The check computes only shapes and dtypes.

    Raises:
      TypeError: if it is not callable, or returns anything but a floating number.
      ValueError: if it returns an array of more than one entry.
    """
    if not callable(loss_fn):
        raise type_error(function, argument, _LOSS, loss_fn)
    out = jax.eval_shape(loss_fn, params, *args)
    if not jnp.issubdtype(getattr(out, "dtype", jnp.bool_), jnp.floating):
        raise type_error(function, argument, _LOSS, out)
    if out.shape != ():
        raise value_error(function, argument, _LOSS, out)
    try:
        hash(loss_fn)
    except TypeError:
        # Compiled programs are cached by their loss. A loss without a hash, such as a
        # dataclass of arrays, is compiled again in each call.
        return lambda params, *args: loss_fn(params, *args)
    return loss_fn


def check_finite(
    function: str, loss: jax.Array, argument: str = "loss_fn"
) -> jax.Array:
    """The loss at the parameters, checked to be finite unless it is traced.

    Raises:
      ValueError: if it is NaN or infinite, and not traced.
    """
    if not isinstance(loss, jax.core.Tracer) and not bool(jnp.isfinite(loss)):
        raise value_error(function, argument, _FINITE_LOSS, loss)
    return loss


def check_floor(function: str, floor: Scalar, adaptive: bool) -> None:
    """Checks the floor of adaptive noise, which is zero if the noise is not adaptive.

    Raises:
      TypeError: if it is not a real number.
      ValueError: if it is negative or not finite, or non-zero without `adaptive`.
    """
    check_not_negative(function, "floor", floor)
    if not adaptive and not (isinstance(floor, (int, float)) and floor == 0.0):
        raise value_error(function, "floor", "0 unless `adaptive` is True", floor)
