"""The worst perturbation within a ball, found by projected gradient ascent."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._keys import fold_in
from heavytail_optax._typing import Params, PyTree, Scalar
from heavytail_optax.flatness._arguments import Loss
from heavytail_optax.flatness._perturbation import (
    add,
    in_float,
    norm,
    normals,
    unit,
)


class Ball(NamedTuple):
    """The set `{u : |u / r|_p <= 1}` of perturbations, with a radius r per parameter.

    Attributes:
      order: p, 2 or infinity.
      adaptive: if true, r is `radius |theta| + floor`; if false, r is the radius.
      floor: in units of the weights.
    """

    order: float
    adaptive: bool
    floor: Scalar

    def radii(self, params: Params, radius: jax.Array) -> PyTree:
        """The radius of every parameter, in float32 or wider."""

        def of_leaf(x: jax.Array) -> jax.Array:
            size = radius.astype(x.dtype)
            if not self.adaptive:
                return jnp.full_like(x, size)
            return size * jnp.abs(x) + jnp.asarray(self.floor, x.dtype)

        return jax.tree.map(of_leaf, in_float(params))


def _steepest(order: float, gradient: PyTree) -> PyTree:
    """The unit vector in the p-norm along which a linear function rises most."""
    if order == math.inf:
        return jax.tree.map(jnp.sign, gradient)
    return unit(gradient)


def _project(order: float, point: PyTree) -> PyTree:
    """The nearest point of the unit ball of the p-norm."""
    if order == math.inf:
        return jax.tree.map(lambda x: jnp.clip(x, -1.0, 1.0), point)
    shrink = 1.0 / jnp.maximum(norm(point), 1.0)
    return jax.tree.map(lambda x: x * shrink.astype(x.dtype), point)


def largest_rise(
    loss_fn: Loss,
    deviation_fn: Loss | None,
    params: Params,
    args: tuple[PyTree, ...],
    key: jax.Array,
    loss: jax.Array,
    radius: jax.Array,
    ball: Ball,
    *,
    num_steps: int,
    step_size: jax.Array,
    num_restarts: int,
    at_once: int,
) -> jax.Array:
    """The largest rise seen on any ascent: a lower bound on the maximum in the ball.

    Args:
      loss_fn: what is ascended.
      deviation_fn: whose rise counts; None for the loss itself.
      params: the middle of the ball.
      args: of both functions.
      key: of the starting points, the same for every radius up to scale.
      loss: what the counting function gives at `params`.
      radius: of the ball, shape=().
      ball: its shape.
      num_steps: gradients an ascent.
      step_size: of the first step, in units of the radius; later ones shrink linearly.
      num_restarts: how many ascents.
      at_once: how many of them side by side.

    Returns:
      `max_u L(theta + u) - L(theta)`; infinite if a loss is not finite.
    """
    radii = ball.radii(params, jnp.where(radius > 0.0, radius, jnp.nan))

    def at(unit_point: PyTree) -> PyTree:
        return add(params, jax.tree.map(jnp.multiply, radii, unit_point))

    def rise(value: jax.Array) -> jax.Array:
        value = value.astype(loss.dtype) - loss
        return jnp.where(jnp.isfinite(value), value, jnp.inf)

    def step(carry, index):
        point, best = carry
        moved = at(point)
        value, gradient = jax.value_and_grad(loss_fn)(moved, *args)
        counted = value if deviation_fn is None else deviation_fn(moved, *args)
        # In the coordinates u / r, where the set is the unit ball.
        scaled = jax.tree.map(lambda g, r: g.astype(r.dtype) * r, gradient, radii)
        size = step_size * (1.0 - index / num_steps)
        direction = _steepest(ball.order, scaled)
        stepped = jax.tree.map(
            lambda p, d: p + size.astype(p.dtype) * d, point, direction
        )
        return (_project(ball.order, stepped), jnp.maximum(best, rise(counted))), None

    def ascent(index: jax.Array) -> jax.Array:
        draws = normals(fold_in(key, index), params)
        start = _steepest(ball.order, draws)
        carry = (start, jnp.full_like(loss, -jnp.inf))
        (end, best), _ = jax.lax.scan(step, carry, jnp.arange(num_steps))
        last = (loss_fn if deviation_fn is None else deviation_fn)(at(end), *args)
        return jnp.maximum(best, rise(last))

    rises = jax.lax.map(ascent, jnp.arange(num_restarts), batch_size=at_once)
    return jnp.max(rises)
