"""Directions of jumps: random, along a vector, or that of the gradient noise."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from heavytail_optax._sharding import rows
from heavytail_optax._typing import Params, PyTree
from heavytail_optax._validation import (
    check_called,
    check_count,
    is_function,
    type_error,
    value_error,
)
from heavytail_optax.flatness._arguments import Loss, check_params
from heavytail_optax.flatness._perturbation import in_float, normals

_NOISE = "gradient_noise_direction"

Draw = Callable[..., Any]


def isotropic(key: jax.Array, params: Params, *args: PyTree) -> PyTree:
    """A normal vector: every direction is equally likely."""
    del args
    return normals(key, params)


def along(vector: PyTree, key: jax.Array) -> PyTree:
    """The vector or its negative, with equal probabilities."""
    sign = jax.random.rademacher(key, (), jnp.float32)
    return jax.tree.map(lambda v: sign.astype(v.dtype) * v, in_float(vector))


def check_direction(
    function: str,
    direction: str | Draw | PyTree,
    key: jax.Array,
    params: Params,
    args: tuple[PyTree, ...],
) -> Draw | PyTree:
    """Checks the direction that a user passed: a name, a function or a vector.

    Raises:
      TypeError: if a vector, given or returned, has leaves that are not floating.
      ValueError: if it is another name, or a vector that does not match the parameters.
    """
    accepted = (
        '"isotropic", a function of (key, params, *args), or a pytree like `params`'
    )
    if isinstance(direction, str):
        if direction != "isotropic":
            raise value_error(function, "direction", accepted, direction)
        return isotropic
    check_called(function, "direction", direction, accepted)
    if is_function(direction):
        shapes = jax.eval_shape(direction, key, params, *args)
        floating = jax.tree.map(lambda x: jnp.issubdtype(x.dtype, jnp.floating), shapes)
        if not (like_params(shapes, params) and all(jax.tree.leaves(floating))):
            raise value_error(function, "direction", accepted, direction)
        return direction
    vector = check_params(function, direction, "direction", accepted)
    if not like_params(vector, params):
        raise value_error(function, "direction", accepted, vector)
    return vector


def like_params(tree: PyTree, params: Params) -> bool:
    """Whether the tree has the structure and the shapes of the parameters."""
    if jax.tree.structure(tree) != jax.tree.structure(params):
        return False
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(params), strict=True)
    return all(jnp.shape(x) == jnp.shape(y) for x, y in pairs)


@dataclasses.dataclass(frozen=True)
class _GradientNoise:
    """The draw. It compares by value, so compiled programs are reused."""

    loss_fn: Loss
    batch_size: int

    def __call__(self, key: jax.Array, params: Params, *args: PyTree) -> PyTree:
        accepted = "arrays with the examples along the first axis, equally many in each"
        shapes = [jnp.shape(x) for x in jax.tree.leaves(args)]
        lengths = {shape[0] if shape else 0 for shape in shapes}
        if len(lengths) != 1 or min(lengths) < self.batch_size:
            accepted += f", at least {self.batch_size}"
            raise value_error(_NOISE, "args", accepted, shapes)
        n = lengths.pop()
        chosen = jax.random.choice(key, n, (self.batch_size,), replace=False)
        batch = jax.tree.map(lambda x: rows(x, chosen), args)
        gradient = jax.grad(self.loss_fn)
        return jax.tree.map(
            jnp.subtract, gradient(params, *batch), gradient(params, *args)
        )


def gradient_noise_direction(loss_fn: Loss, batch_size: int) -> Draw:
    r"""The direction of SGD's gradient noise, for `escape_profile`.

    .. math:: V = g_{SB}(\theta) - \nabla L(\theta),

    the gradient of a batch minus the gradient of all data, at the point of the jump.
    The batch is drawn without replacement. This is the noise that tail inflation
    multiplies. At an interpolating solution every example has gradient zero, so there
    is no noise and the direction is zero.

    Cost: one gradient on all data and one on a batch for each draw.

    Args:
      loss_fn: called as `loss_fn(params, *args)`: a mean over the examples of `args`,
        which lie along the first axis of every array in it.
      batch_size: examples of a batch, at least one, less than there are.

    Returns:
      A function, called as `draw(key, params, *args)`. Two made of equal arguments are
      equal.

    Raises:
      TypeError: if `loss_fn` is not callable, or `batch_size` not an integer.
      ValueError: if `batch_size` is below one; when called, if it is above the number
        of examples.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> draw = hto.flatness.gradient_noise_direction(
      ...     lambda w, x: jnp.mean((w - x) ** 2), batch_size=2
      ... )
      >>> x = jnp.array([0.0, 0.0, 3.0])
      >>> noise = draw(jax.random.key(0), 0.0, x)
      >>> print(any(bool(jnp.isclose(noise, v)) for v in (2.0, -1.0)))
      True
    """
    if not callable(loss_fn):
        raise type_error(_NOISE, "loss_fn", "a function of (params, *args)", loss_fn)
    return _GradientNoise(loss_fn, check_count(_NOISE, "batch_size", batch_size))
