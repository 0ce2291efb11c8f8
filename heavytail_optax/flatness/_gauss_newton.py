"""A loss whose Hessian is the Gauss-Newton matrix of another loss."""

import dataclasses
import functools
from collections.abc import Callable

import jax
from jax.custom_derivatives import SymbolicZero

from heavytail_optax._typing import Params, PyTree
from heavytail_optax._validation import type_error
from heavytail_optax.flatness._arguments import Loss

_NAME = "gauss_newton_loss"


@dataclasses.dataclass(frozen=True)
class _GaussNewtonLoss:
    """The loss. It compares by value, so compiled programs are reused."""

    predict_fn: Callable[..., PyTree]
    loss_fn: Callable[..., jax.Array]

    def __call__(self, params: Params, *args: PyTree) -> jax.Array:
        # What the function closes over may have a derivative too.
        predict, closed_over = jax.closure_convert(self.predict_fn, params, *args)
        outputs = _linear_in_params(predict, params, (*args, *closed_over))
        return self.loss_fn(outputs, *args)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _linear_in_params(
    predict: Callable[..., PyTree], params: Params, args: tuple[PyTree, ...]
) -> PyTree:
    """The outputs, without second derivatives in the parameters."""
    return predict(params, *args)


@functools.partial(_linear_in_params.defjvp, symbolic_zeros=True)
def _linear_in_params_jvp(
    predict: Callable[..., PyTree],
    primals: tuple[Params, tuple[PyTree, ...]],
    tangents: tuple[Params, tuple[PyTree, ...]],
) -> tuple[PyTree, PyTree]:
    params, args = primals
    # The slope is taken at a point that is held fixed.
    point = (jax.lax.stop_gradient(params), args)
    values, structure = jax.tree.flatten(point)
    # What does not move is left out: JAX makes its zeros without the sharding of the data.
    moves = [
        (place, change)
        for place, change in enumerate(jax.tree.leaves(tangents))
        if not isinstance(change, SymbolicZero)
    ]
    places, changes = [place for place, _ in moves], [change for _, change in moves]

    def of_moving(moving: list[jax.Array]) -> PyTree:
        together = list(values)
        for place, value in zip(places, moving, strict=True):
            together[place] = value
        w, data = jax.tree.unflatten(structure, together)
        return predict(w, *data)

    _, moved = jax.jvp(of_moving, ([values[place] for place in places],), (changes,))
    return _linear_in_params(predict, params, args), moved


def gauss_newton_loss(
    predict_fn: Callable[..., PyTree], loss_fn: Callable[..., jax.Array]
) -> Loss:
    r"""A loss with the value and gradient of another; its Hessian is Gauss-Newton.

    For a loss :math:`L(\theta) = \ell(f(\theta))`, a function of the outputs of a
    network, the returned loss has the Hessian

    .. math:: G = J^\top\, \nabla^2 \ell\, J, \qquad J = \partial f / \partial\theta,

    It is positive semi-definite for a convex :math:`\ell`, and it equals the Hessian of
    L up to terms that vanish with the residuals. Pass the loss to
    `hessian_eigenvalues`, `hessian_trace` or `hessian_density`. If the data are large,
    pass it through `mean_over_batches` first.

    Cost: one evaluation costs about two of L: the outputs and their derivative.

    Args:
      predict_fn: f, called as `predict_fn(params, *args)`; returns a pytree of outputs.
      loss_fn: called as `loss_fn(outputs, *args)`; returns one floating number.

    Returns:
      A loss, called as `loss(params, *args)`. Two losses made from equal arguments are
      equal.

    Raises:
      TypeError: if one of the two is not callable.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> loss = hto.flatness.gauss_newton_loss(
      ...     lambda w, target: jnp.sin(w), lambda y, target: jnp.sum((y - target) ** 2)
      ... )
      >>> w, target = jnp.array([0.5]), jnp.array([3.0])
      >>> print(jax.hessian(loss)(w, target), 2 * jnp.cos(0.5) ** 2)
      [[1.5403]] 1.5403

    References:
      Martens, "New insights and perspectives on the natural gradient method", JMLR 21
      (2020), section 8.
    """
    for name, function in (("predict_fn", predict_fn), ("loss_fn", loss_fn)):
        if not callable(function):
            raise type_error(_NAME, name, "a function", function)
    return _GaussNewtonLoss(predict_fn, loss_fn)
