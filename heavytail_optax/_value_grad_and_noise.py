"""The gradient and a sample of its noise, from one forward pass."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from heavytail_optax._inflation_weights import (
    balanced_signs,
    check_can_be_split,
    mean_weights,
)
from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._per_example import checked_losses, checked_masks
from heavytail_optax._pytrees import check_axes_of_call, fold_in_axes, vary_over_axes
from heavytail_optax._typing import AxisNames, Batch, Params, PyTree
from heavytail_optax._validation import check_bool, type_error

_NAME = "value_grad_and_noise"


def value_grad_and_noise(
    loss_per_example: Callable[[Params, Batch], PyTree],
    *,
    has_aux: bool = False,
    axis_name: AxisNames = None,
) -> Callable:
    r"""Returns a function that computes a loss, its gradient and a sample of its noise.

    .. math::
      g = \frac1n \sum_i \nabla \ell_i, \qquad
      v = \frac1n \sum_i s_i \nabla \ell_i,

    with the signs of `balanced_inflation_weights`: v is half the difference between the
    gradients of two random halves of the batch. It has mean zero and, if the examples
    are drawn independently, the covariance of g. `tail_inflated_value_and_grad` returns
    the sum `g + Z v` for the price of g. This function keeps the two apart, for
    `inflate_preconditioned_noise` and `inflate_gradient_noise`.

    Cost: one forward pass and two backward passes, about 5/3 of a gradient.

    Args:
      loss_per_example: `(params, batch) -> losses` of shape (n,) in float32 or wider,
        or `(losses, aux)` with `has_aux`. The loss of an example must not depend on the
        other examples.
      has_aux: whether the loss returns `(losses, aux)`, each array of aux with a
        leading axis over the examples.
      axis_name: the mapped axis, inside `shard_map` or `pmap` where each device has a
        part of the batch. Each device splits its own part; average gradient and noise
        with `jax.lax.pmean`.

    Returns:
      A function `(key, params, batch, *, masks=None)` that returns `(value, grad,
      noise)`, or `((value, aux), grad, noise)` with `has_aux`. Pass a new `key` in each
      step. `masks` is None or a tuple of one mask of shape (n,), false on padding,
      whose loss must be finite. If the mask leaves one example, the noise is zero.

    Raises:
      TypeError, ValueError: if an argument is not accepted; in the returned function,
        if the batch has fewer than two examples or the loss is not per example.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> grad_fn = hto.value_grad_and_noise(lambda params, batch: (batch - params) ** 2)
      >>> value, grad, noise = grad_fn(jax.random.key(0), 0.0, jnp.array([1.0, 3.0]))
      >>> print(value, grad, abs(noise))
      5.0 -4.0 2.0

    References:
      Wang, Oh, Rhee, ICLR 2022 (arXiv 2102.04297), for the noise of minibatches.
    """
    if not callable(loss_per_example):
        accepted = "a function (params, batch) -> losses"
        raise type_error(_NAME, "loss_per_example", accepted, loss_per_example)
    check_bool(_NAME, "has_aux", has_aux)
    axes = check_axes_of_call(_NAME, axis_name)
    call, names = f"{_NAME}(...)", ("batch",)

    def grad_fn(key, params, batch, *, masks=None):
        check_key(call, key)
        (mask,) = checked_masks(call, names, (batch,), masks)
        check_can_be_split(call, names[0], mask.shape[0])
        # In shard_map, the gradient of replicated parameters would otherwise be summed
        # over the devices.
        params = vary_over_axes(params, axes)
        losses, pull_back, aux = jax.vjp(
            lambda p: checked_losses(_NAME, loss_per_example, has_aux, p, batch),
            params,
            has_aux=True,
        )
        mean = mean_weights(mask).astype(losses.dtype)
        own = fold_in_axes(tagged_key(key, _NAME), axes)
        signs = balanced_signs(own, mask).astype(losses.dtype)
        (grad,), (noise,) = pull_back(mean), pull_back(signs * mean)
        value = jnp.sum(mean * losses)
        return ((value, aux) if has_aux else value), grad, noise

    return grad_fn
