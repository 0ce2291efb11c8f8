"""Scales a direction to the weights, filter by filter."""

import functools

import jax
import jax.numpy as jnp

from heavytail_optax._sharding import zeros_like
from heavytail_optax._typing import Params, PyTree
from heavytail_optax._validation import is_integer, type_error, value_error
from heavytail_optax.flatness._arguments import check_params
from heavytail_optax.flatness._perturbation import in_float
from heavytail_optax.flatness._slices import check_vector


@functools.partial(jax.jit, static_argnames="filter_axis")
def _normalised(direction: PyTree, params: Params, *, filter_axis: int) -> PyTree:
    def of_leaf(d: jax.Array, w: jax.Array) -> jax.Array:
        if d.ndim < 2:
            return zeros_like(d, d.dtype)
        own_axis = filter_axis % d.ndim
        axes = tuple(axis for axis in range(d.ndim) if axis != own_axis)
        size = jnp.sqrt(jnp.sum(d**2, axis=axes, keepdims=True))
        wanted = jnp.sqrt(jnp.sum(w**2, axis=axes, keepdims=True))
        return d * jnp.where(size > 0.0, wanted / jnp.where(size > 0.0, size, 1.0), 0.0)

    return jax.tree.map(of_leaf, direction, params)


def filter_normalise(
    direction: PyTree, params: Params, *, filter_axis: int = -1
) -> PyTree:
    r"""Scales every filter of a direction to the norm of that filter in the weights.

    .. math:: d_{ij} \leftarrow d_{ij}\, \frac{\|\theta_{ij}\|}{\|d_{ij}\|}

    for filter j of layer i. This makes slices of networks with different scales
    comparable. The direction becomes zero for arrays with one axis or none (biases,
    scales of normalisation), so they do not move, and for filters whose weights are
    zero.

    Args:
      direction: a pytree like `params`, for example a random one.
      params: the weights.
      filter_axis: the axis of the filters: -1 for Flax, where output channels are the
        last axis of a kernel; 0 for PyTorch.

    Returns:
      A pytree like `direction`, in float32 or wider.

    Raises:
      TypeError: if a leaf is not floating, or `filter_axis` not an integer.
      ValueError: if `params` is empty, `direction` does not match it, or `filter_axis`
        is neither -1 nor 0.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> params = {"kernel": jnp.array([[3.0, 1.0], [4.0, 0.0]]), "bias": jnp.ones(2)}
      >>> direction = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
      >>> normalised = hto.flatness.filter_normalise(direction, params)
      >>> print(jnp.linalg.norm(normalised["kernel"], axis=0), normalised["bias"])
      [5. 1.] [0. 0.]

    References:
      Li et al., "Visualizing the loss landscape of neural nets", NeurIPS 2018
      (arXiv 1712.09913), section 4.
    """
    name = "filter_normalise"
    params = in_float(check_params(name, params))
    direction = check_vector(name, "direction", direction, params)
    accepted = "-1 or 0"
    if not is_integer(filter_axis):
        raise type_error(name, "filter_axis", accepted, filter_axis)
    if filter_axis not in (-1, 0):
        raise value_error(name, "filter_axis", accepted, filter_axis)

    return _normalised(direction, params, filter_axis=filter_axis)
