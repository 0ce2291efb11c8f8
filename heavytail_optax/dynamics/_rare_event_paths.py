"""One path of the rare-event estimator, and sums over many."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._typing import Batch
from heavytail_optax._wide_vectors import program_of_the_host
from heavytail_optax.dynamics._landscape import Function
from heavytail_optax.dynamics._rare_event_jumps import (
    component_of,
    draw_big_jumps,
    exponential,
    uniform,
    words,
)
from heavytail_optax.dynamics._rare_event_plan import Plan

_SUB_STEP = 0.1  # in units of one over the largest curvature nearby
_SPREAD = 4.0  # standard deviations of small noise within the linear reach
_DRAWS = 4  # pairs of words for each iteration of the loop


class Path(NamedTuple):
    """The state of one path at a step, before the next individual jump.

    Attributes:
      turn: iteration of the loop; it numbers the random words.
      x: the position after `step` steps.
      step: number of steps so far.
      target: the step of the next individual jump; above n for none.
      is_big: whether that jump is a big one.
      num_big: number of big jumps so far.
      left: a score for each end on the left: exits beyond it.
      right: a score for each end on the right.
      exit_step: the step that left the field; infinite for none.
      is_over: whether the path has left or reached the end of the window.
    """

    turn: jax.Array
    x: jax.Array
    step: jax.Array
    target: jax.Array
    is_big: jax.Array
    num_big: jax.Array
    left: tuple[jax.Array, ...]
    right: tuple[jax.Array, ...]
    exit_step: jax.Array
    is_over: jax.Array


def _small_steps(
    plan: Plan, gradient: Function, path: Path, normal: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Lumps the small steps before the target into flow and a Gaussian.

    The flow is that of f' linearised at x. This is exact for a quadratic: the chain
    contracts by `a = 1 - eta f''` in each step. Otherwise a lump is short compared with
    one over the largest curvature nearby, unless f' is nearly linear wherever the lump
    can go.

    Returns:
      The position, the step, and f' there by the same linearisation.
    """
    eta = plan.learning_rate
    slope, curvature = jax.jvp(gradient, (path.x,), (jnp.ones_like(path.x),))
    cell = jnp.round((path.x - plan.table_start) / plan.table_step)
    cell = jnp.clip(cell, 0, plan.curvature_bound.shape[0] - 1).astype(jnp.int32)
    bound, reach = plan.curvature_bound[cell], plan.linear_reach[cell]
    settled = jnp.where(curvature > 0.0, curvature, 1.0)
    spread = jnp.sqrt(plan.small_variance / (2.0 * eta * settled))
    is_linear = (curvature > 0.0) & (
        jnp.abs(slope) / settled + _SPREAD * spread <= reach
    )
    longest = jnp.maximum(jnp.floor(_SUB_STEP / (eta * bound)), 1.0)
    number = path.target - 1.0 - path.step
    number = jnp.where(is_linear, number, jnp.minimum(number, longest))
    log_factor = jnp.log1p(-jnp.minimum(eta * curvature, 0.999))
    is_flat = jnp.abs(log_factor) * jnp.maximum(number, 1.0) < 1e-9
    safe = jnp.where(is_flat, -1.0, log_factor)
    moved = jnp.where(
        is_flat,
        -number * eta,
        jnp.expm1(number * safe) / jnp.where(is_flat, 1.0, curvature),
    )
    times = jnp.where(
        is_flat, number, jnp.expm1(2 * number * safe) / jnp.expm1(2 * safe)
    )
    x = path.x + slope * moved + jnp.sqrt(plan.small_variance * times) * normal
    return x, path.step + number, slope + curvature * (x - path.x)


def _beyond(plan: Plan, distance: jax.Array, drift: jax.Array) -> jax.Array:
    """P(phi_b(drift + |w|) > distance) for one individual jump with a given sign."""
    needed = jnp.maximum(distance - drift, plan.smallest)
    chance = jnp.exp(plan.alpha * jnp.log(plan.smallest / needed))
    return 0.5 * jnp.where(distance <= plan.max_norm, chance, 0.0)


def _is_inside(plan: Plan, x: jax.Array) -> jax.Array:
    return (x > plan.left_ends[0]) & (x < plan.right_ends[0])


def _next_target(
    plan: Plan, steps: jax.Array, step: jax.Array, num_big: jax.Array, wait: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The next individual step after `step`, and whether its jump is big."""
    gap = jnp.maximum(jnp.ceil(wait / plan.gap_rate), 1.0)
    # Two big jumps in one step, at a chance of about 1 / n, are put in neighbouring
    # ones.
    big = jnp.maximum(steps[num_big], step + 1.0)
    medium = step + gap
    return jnp.minimum(big, medium), big <= medium


def sample_path(plan: Plan, gradient: Function, key: jax.Array, lane: jax.Array):
    """One path from the minimum: its likelihood ratio, scores and exit step."""
    steps, tails, is_positive, ratio, first_draw = draw_big_jumps(plan, key, lane)
    last = tails.shape[0] - 1
    n1, n = plan.burn_in_steps, plan.last_step

    def turn(path: Path) -> Path:
        draw = first_draw + jnp.uint32(_DRAWS) * path.turn
        normal = jnp.sqrt(2.0) * jax.lax.erf_inv(
            2.0 * jnp.minimum(uniform(key, lane, draw), 1.0 - 2.0**-54) - 1.0
        )
        # Without the barrier, XLA computes these again for each value that uses them.
        x, step, slope = jax.lax.optimization_barrier(
            _small_steps(plan, gradient, path, normal)
        )
        crossed = ~_is_inside(plan, x)
        arrived = ~crossed & (step == path.target - 1.0)
        ended = arrived & (path.target > n)
        jumps = arrived & ~ended
        # Score the probability that this jump leaves, for every class of jump.
        drift = -plan.learning_rate * slope
        scored = (jumps & (path.target > n1)).astype(x.dtype)
        left = [
            score + scored * _beyond(plan, x - end, -drift)
            for score, end in zip(path.left, plan.left_ends, strict=True)
        ]
        right = [
            score + scored * _beyond(plan, end - x, drift)
            for score, end in zip(path.right, plan.right_ends, strict=True)
        ]
        # Small steps that cross end beyond the nearest end.
        scored = (crossed & (step > n1)).astype(x.dtype)
        left[0] += scored * (x <= plan.left_ends[0])
        right[0] += scored * (x >= plan.right_ends[0])
        medium = plan.individual_tail - plan.big_tail
        tail = plan.big_tail + medium * uniform(key, lane, draw + jnp.uint32(1))
        number = jnp.minimum(path.num_big, last)
        tail = jnp.where(path.is_big, tails[number], tail)
        size = plan.scale * jnp.exp(-jnp.log(tail) / plan.alpha)
        sign_word, _ = words(key, lane, draw + jnp.uint32(2))
        to_right = sign_word < jnp.uint32(2**31)
        to_right = jnp.where(path.is_big, is_positive[number], to_right)
        w = jnp.where(to_right, size, -size)
        landed = x + jnp.clip(drift + w, -plan.max_norm, plan.max_norm)
        landed = jnp.clip(landed, plan.projection[0], plan.projection[1])
        x = jnp.where(jumps, landed, x)
        leaves = crossed | (jumps & ~_is_inside(plan, x))
        step = jnp.where(jumps, path.target, step)
        num_big = path.num_big + (jumps & path.is_big).astype(jnp.int32)
        wait = exponential(key, lane, draw + jnp.uint32(3))
        target, is_big = _next_target(plan, steps, step, num_big, wait)
        return Path(
            turn=path.turn + jnp.uint32(1),
            x=x,
            step=step,
            # Small steps that stopped early continue to the same jump.
            target=jnp.where(jumps, jnp.minimum(target, n + 1.0), path.target),
            is_big=jnp.where(jumps, is_big, path.is_big),
            num_big=num_big,
            left=tuple(left),
            right=tuple(right),
            exit_step=jnp.where(leaves, step, path.exit_step),
            is_over=leaves | ended,
        )

    zero = jnp.zeros(())
    wait = exponential(key, lane, first_draw + jnp.uint32(3))
    target, is_big = _next_target(plan, steps, zero, jnp.int32(0), wait)
    start = Path(
        turn=jnp.uint32(1),
        x=plan.start,
        step=zero,
        target=jnp.minimum(target, n + 1.0),
        is_big=is_big,
        num_big=jnp.int32(0),
        left=(zero,) * len(plan.left_ends),
        right=(zero,) * len(plan.right_ends),
        exit_step=jnp.asarray(jnp.inf),
        is_over=jnp.bool_(False),
    )
    path = jax.lax.while_loop(lambda path: ~path.is_over, turn, start)
    return ratio, path


class Sums(NamedTuple):
    """Sums over the paths of each component of the mixture; axis 0 is the component.

    Attributes:
      number: number of paths. shape=(3,).
      values: sums of the weighted values of a path: its scores for the destinations
        beyond each end on the left, nearest first, then on the right; the lost share of
        the window; whether it left in the burn-in, and the lost share of the burn-in.
        shape=(3, m).
      products: sums of the products of each two values. shape=(3, m, m).
      largest_score: the largest sum of the scores of one path. shape=().
    """

    number: jax.Array
    values: jax.Array
    products: jax.Array
    largest_score: jax.Array


def _between(beyond: tuple[jax.Array, ...]) -> list[jax.Array]:
    """From exits beyond each end to exits that land between one end and the next."""
    return [
        near - far
        for near, far in itertools.pairwise([*beyond, jnp.zeros_like(beyond[0])])
    ]


@functools.partial(program_of_the_host, static_argnames=("gradient", "at_once"))
def sum_over_batch(
    gradient: Function, plan: Plan, key: jax.Array, batch: Batch, at_once: int
) -> Sums:
    """Sums over the paths `batch * at_once ...`; a path depends on key and number."""
    n1, n = plan.burn_in_steps, plan.last_step
    lanes = jnp.uint32(batch) * jnp.uint32(at_once)
    lanes = lanes + jnp.arange(at_once, dtype=jnp.uint32)
    ratio, path = jax.vmap(lambda lane: sample_path(plan, gradient, key, lane))(lanes)
    scores = [*_between(path.left), *_between(path.right)]
    end = jnp.minimum(path.exit_step, n)
    others = [
        (n - jnp.maximum(end, n1)) / (n - n1),
        (end <= n1).astype(end.dtype),
        jnp.maximum(n1 - end, 0.0) / n1,
    ]
    values = ratio[:, None] * jnp.stack([*scores, *others], axis=-1)
    components = jax.vmap(lambda lane: component_of(plan, lane))(lanes)
    of_component = jax.nn.one_hot(components, 3, axis=0, dtype=ratio.dtype)
    return Sums(
        number=of_component.sum(axis=-1),
        values=of_component @ values,
        products=jnp.einsum("kn,ni,nj->kij", of_component, values, values),
        largest_score=values[:, : -len(others)].sum(axis=-1).max(),
    )


def sum_over_paths(
    gradient: Function, plan: Plan, key: jax.Array, num_batches: int, at_once: int
) -> Sums:
    """Sums over `num_batches * at_once` paths, in NumPy float64."""
    with jax.enable_x64(True):
        plan = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), plan)
        batches = [
            sum_over_batch(gradient, plan, key, np.uint32(batch), at_once)
            for batch in range(num_batches)
        ]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    sums = Sums(*(leaf.sum(axis=0) for leaf in stacked))
    return sums._replace(largest_score=stacked.largest_score.max())
