"""The loss on the straight line between two solutions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._result_text import is_one_number, short_repr
from heavytail_optax._typing import PyTree
from heavytail_optax._validation import check_count
from heavytail_optax.flatness._arguments import (
    Loss,
    check_args,
    check_finite,
    check_loss,
    check_params,
)
from heavytail_optax.flatness._loss_changes import loss_at
from heavytail_optax.flatness._memory import evaluations_at_once
from heavytail_optax.flatness._perturbation import in_float
from heavytail_optax.flatness._slices import check_vector, compiled_losses_at


class LinearBarrier(NamedTuple):
    """Result of `linear_barrier`.

    Attributes:
      height: how far the loss rises above linear interpolation between its values at
        the two ends; 0 if it does not. shape=().
      height_above_ends: how far the loss rises above its value at the higher end; 0 if
        it does not. If it is positive by more than the rounding error of the losses
        (1e-7 of them in float32), there is a barrier between the two. shape=().
      coefficients: t, from 0 to 1. shape=(num_points,).
      losses: `L((1 - t) start + t end)`. shape=(num_points,).
    """

    height: jax.Array
    height_above_ends: jax.Array
    coefficients: jax.Array
    losses: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.height):
            return repr(self)
        above = f"{self.height_above_ends:.4g} above the higher end"
        return f"barrier {above}, {self.height:.4g} above the line between the ends"


def heights(coefficients: jax.Array, losses: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Heights above linear interpolation between the ends, and above the higher end."""
    line = (1.0 - coefficients) * losses[0] + coefficients * losses[-1]
    ends = jnp.maximum(losses[0], losses[-1])
    return jnp.max(losses - line), jnp.max(losses) - ends


def linear_barrier(
    loss_fn: Loss,
    start: PyTree,
    end: PyTree,
    *,
    args: tuple[PyTree, ...] = (),
    num_points: int = 21,
) -> LinearBarrier:
    r"""Height of the loss barrier on the straight line between two solutions.

    .. math::
      \max_{0 \le t \le 1} L((1 - t) \theta_0 + t \theta_1)
      - (1 - t) L(\theta_0) - t L(\theta_1),

    over equally spaced t. A barrier that is narrower than the spacing can be missed. A
    high barrier does not exclude a curved path without one: for example, networks that
    differ by a permutation of their units are the same function.

    Cost: `num_points + 1` evaluations of the loss.

    Args:
      loss_fn: L, called as `loss_fn(params, *args)`, that returns one floating number.
      start: theta_0, a pytree of floating arrays.
      end: theta_1, a pytree like it.
      args: the data, and any other arguments of the loss after the parameters.
      num_points: number of values of t, both ends included; at least 2.

    Returns:
      A `LinearBarrier`; `plot_line` draws it.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if `start` or an array of `args` is empty, the loss is not a scalar or
        not finite at `start`, `end` does not match `start`, or `num_points` is below 2.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> two_wells = lambda x: (x**2 - 1.0) ** 2
      >>> print(hto.flatness.linear_barrier(two_wells, -1.0, 1.0).height)
      1.0

    References:
      Frankle et al., "Linear mode connectivity and the lottery ticket hypothesis", ICML
      2020 (arXiv 1912.05671), section 2.
    """
    name = "linear_barrier"
    start = check_params(name, start, "start")
    end = check_vector(name, "end", end, start)
    args = check_args(name, args)
    num_points = check_count(name, "num_points", num_points, least=2)
    loss_fn = check_loss(name, loss_fn, start, args)
    check_finite(name, loss_at(loss_fn, start, args))
    direction = jax.tree.map(jnp.subtract, end, in_float(start))
    coefficients = jnp.linspace(0.0, 1.0, num_points)
    at_once = min(evaluations_at_once(loss_fn, start, *args), num_points)
    losses = compiled_losses_at(
        loss_fn, start, (direction,), coefficients[:, None], args, at_once
    )
    return LinearBarrier(*heights(coefficients, losses), coefficients, losses)
