"""One path out of a minimum: the jumps, the gradient flow between them, and the end."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._keys import fold_in
from heavytail_optax._typing import Params, PyTree
from heavytail_optax.flatness._arguments import Loss
from heavytail_optax.flatness._barrier import heights
from heavytail_optax.flatness._directions import Draw
from heavytail_optax.flatness._perturbation import norm, unit
from heavytail_optax.flatness._slices import losses_at


class PathEnd(NamedTuple):
    """The end of descent after some jumps: scalars, with any batch shape.

    Attributes:
      distance: distance from the reference solution.
      barrier: height of the loss on the straight line to it, above the higher end.
      loss: loss at the end.
      gradient_norm: gradient norm at the end; small if the end is a solution.
    """

    distance: jax.Array
    barrier: jax.Array
    loss: jax.Array
    gradient_norm: jax.Array


class Walk(NamedTuple):
    """The settings of a walk. All functions take parameters in float32 or wider.

    Attributes:
      loss_fn: function of wide parameters and args.
      args: arguments of the loss.
      draw: function from (key, params, *args) to a direction.
      project: applied after every move.
      jump_norm: b, shape=().
      learning_rate: learning rate of the descent, shape=().
      flow_steps: steps of descent between two jumps.
      descent_steps: steps of descent to a solution, at least `flow_steps`.
      num_points: points on the straight line back.
      repeat_direction: whether all jumps of a path have the direction of its first.
    """

    loss_fn: Loss
    args: tuple[PyTree, ...]
    draw: Draw
    project: Callable[[Params], Params]
    jump_norm: jax.Array
    learning_rate: jax.Array
    flow_steps: int
    descent_steps: int
    num_points: int
    repeat_direction: bool


def descend(walk: Walk, point: PyTree, num_steps: int) -> PyTree:
    """Gradient descent on the loss of all data."""

    def step(_, point):
        gradient = jax.grad(walk.loss_fn)(point, *walk.args)
        return walk.project(
            jax.tree.map(
                lambda x, g: x - walk.learning_rate.astype(x.dtype) * g, point, gradient
            )
        )

    return jax.lax.fori_loop(0, num_steps, step, point)


def judge(walk: Walk, reference: PyTree, end: PyTree) -> PathEnd:
    """Compares the end of a descent with the reference."""
    loss, gradient = jax.value_and_grad(walk.loss_fn)(end, *walk.args)
    change = jax.tree.map(jnp.subtract, end, reference)
    coefficients = jnp.linspace(0.0, 1.0, walk.num_points)
    losses = losses_at(
        walk.loss_fn, reference, (change,), coefficients[:, None], walk.args, 1
    )
    losses = jnp.where(jnp.isnan(losses), jnp.inf, losses)
    _, barrier = heights(coefficients, losses)
    return PathEnd(norm(change), barrier, loss.astype(losses.dtype), norm(gradient))


def walk_out(walk: Walk, reference: PyTree, key: jax.Array, max_jumps: int) -> PathEnd:
    """Outcomes after 1, 2, ..., `max_jumps` jumps of one path, shape=(max_jumps,)."""
    first = walk.draw(fold_in(key, 0), reference, *walk.args)

    def jump(point: PyTree, index: jax.Array) -> tuple[PyTree, PathEnd]:
        if walk.repeat_direction:
            direction = first
        else:
            direction = walk.draw(fold_in(key, index), point, *walk.args)
        landed = walk.project(
            jax.tree.map(
                lambda x, u: x + walk.jump_norm.astype(x.dtype) * u.astype(x.dtype),
                point,
                unit(direction),
            )
        )
        flowed = descend(walk, landed, walk.flow_steps)
        settled = descend(walk, flowed, walk.descent_steps - walk.flow_steps)
        return flowed, judge(walk, reference, settled)

    _, outcomes = jax.lax.scan(jump, reference, jnp.arange(max_jumps))
    return outcomes
