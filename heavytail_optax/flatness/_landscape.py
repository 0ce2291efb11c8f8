"""Slices of the loss along a line and over a plane."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._result_text import is_one_number, short_repr
from heavytail_optax._typing import Params, PyTree
from heavytail_optax._validation import type_error, value_error
from heavytail_optax.flatness._arguments import (
    Loss,
    check_args,
    check_loss,
    check_params,
)
from heavytail_optax.flatness._memory import evaluations_at_once
from heavytail_optax.flatness._slices import check_vector, compiled_losses_at

_COEFFICIENTS = "an array of finite numbers of shape (n,), n at least 1"


class LossLine(NamedTuple):
    """Result of `loss_line`.

    Attributes:
      coefficients: the values of t. shape=(n,).
      losses: `L(theta + t d)`, at least float32. shape=(n,).
    """

    coefficients: jax.Array
    losses: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        return _slice_in_words(self, self.losses, "a line", (self.coefficients,))


class LossPlane(NamedTuple):
    """Result of `loss_plane`.

    Attributes:
      first: the values of s. shape=(n,).
      second: the values of t. shape=(m,).
      losses: `L(theta + s d + t e)`, at least float32. shape=(n, m).
    """

    first: jax.Array
    second: jax.Array
    losses: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        places = (self.first, self.second)
        return _slice_in_words(self, self.losses, "a plane", places)


def _slice_in_words(
    result: tuple, losses: jax.Array, what: str, places: tuple[jax.Array, ...]
) -> str:
    """The range of the losses, and where they are; a batch or tracers as they are."""
    if losses.ndim != len(places) or not is_one_number(losses.ravel()[0]):
        return repr(result)
    ranges = " and ".join(f"{x.min():.4g} to {x.max():.4g}" for x in places)
    size = " x ".join(str(x.size) for x in places)
    return (
        f"loss from {losses.min():.4g} to {losses.max():.4g} at {size} points of {what}, "
        f"{ranges}"
    )


def _check_coefficients(function: str, argument: str, value: object) -> jax.Array:
    if isinstance(value, (list, tuple)):
        value = np.asarray(value)
    dtype = getattr(value, "dtype", None)
    if dtype is None or not (
        jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    ):
        raise type_error(function, argument, _COEFFICIENTS, value)
    if value.ndim != 1 or value.shape[0] < 1:
        raise value_error(function, argument, _COEFFICIENTS, value)
    if isinstance(value, np.ndarray) and not np.isfinite(value).all():
        raise value_error(function, argument, _COEFFICIENTS, value)
    return jnp.asarray(value, computation_dtype(jnp.result_type(value)))


def loss_line(
    loss_fn: Loss,
    params: Params,
    direction: PyTree,
    coefficients: npt.ArrayLike,
    *,
    args: tuple[PyTree, ...] = (),
) -> LossLine:
    r"""The loss along a line, :math:`L(\theta + t d)`.

    Cost: one evaluation of the loss for each coefficient.

    Args:
      loss_fn: L, called as `loss_fn(params, *args)`, that returns one floating number.
      params: theta, a pytree of floating arrays.
      direction: d, a pytree like `params`: an eigenvector of `hessian_eigenvalues`, a
        random direction scaled by `filter_normalise`, or the difference of two
        solutions.
      coefficients: t, shape=(n,).
      args: the data, and any other arguments of the loss after the parameters.

    Returns:
      A `LossLine`; `plot_line` draws it. Losses that are not finite are kept.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if `params` or an array of `args` is empty, the loss is not a scalar,
        `direction` does not match `params`, or `coefficients` is not a vector of finite
        numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> line = hto.flatness.loss_line(
      ...     lambda w: jnp.sum(w**2), jnp.zeros(2), jnp.ones(2), jnp.array([0.0, 1.0])
      ... )
      >>> print(line.losses)
      [0. 2.]
    """
    name = "loss_line"
    params = check_params(name, params)
    direction = check_vector(name, "direction", direction, params)
    coefficients = _check_coefficients(name, "coefficients", coefficients)
    args = check_args(name, args)
    loss_fn = check_loss(name, loss_fn, params, args)
    at_once = min(evaluations_at_once(loss_fn, params, *args), coefficients.shape[0])
    losses = compiled_losses_at(
        loss_fn, params, (direction,), coefficients[:, None], args, at_once
    )
    return LossLine(coefficients, losses)


def loss_plane(
    loss_fn: Loss,
    params: Params,
    directions: tuple[PyTree, PyTree],
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    args: tuple[PyTree, ...] = (),
) -> LossPlane:
    r"""The loss over a plane, :math:`L(\theta + s d + t e)`.

    Cost: one evaluation of the loss for each pair of coefficients.

    Args:
      loss_fn: L, called as `loss_fn(params, *args)`, that returns one floating number.
      params: theta, a pytree of floating arrays.
      directions: d and e, pytrees like `params`.
      first: s, shape=(n,).
      second: t, shape=(m,).
      args: the data, and any other arguments of the loss after the parameters.

    Returns:
      A `LossPlane`; `plot_plane` draws it. Losses that are not finite are kept.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if `params` or an array of `args` is empty, the loss is not a scalar,
        `directions` are not two pytrees like `params`, or `first` or `second` is not a
        vector of finite numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> d, e = jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0])
      >>> plane = hto.flatness.loss_plane(
      ...     lambda w: jnp.sum(w**2), jnp.zeros(2), (d, e), [0.0, 1.0], [0.0, 1.0]
      ... )
      >>> print(plane.losses)
      [[0. 4.]
       [1. 5.]]

    References:
      Li et al., "Visualizing the loss landscape of neural nets", NeurIPS 2018
      (arXiv 1712.09913).
    """
    name = "loss_plane"
    params = check_params(name, params)
    accepted = "a tuple of two pytrees of floating arrays like `params`"
    if not isinstance(directions, (tuple, list)):
        raise type_error(name, "directions", accepted, directions)
    if len(directions) != 2:
        raise value_error(name, "directions", accepted, directions)
    pair = tuple(check_vector(name, "directions", d, params) for d in directions)
    first = _check_coefficients(name, "first", first)
    second = _check_coefficients(name, "second", second)
    args = check_args(name, args)
    loss_fn = check_loss(name, loss_fn, params, args)
    grid = jnp.stack(jnp.meshgrid(first, second, indexing="ij"), axis=-1)
    points = grid.reshape(-1, 2)
    at_once = min(evaluations_at_once(loss_fn, params, *args), points.shape[0])
    losses = compiled_losses_at(loss_fn, params, pair, points, args, at_once)
    return LossPlane(first, second, losses.reshape(grid.shape[:2]))
