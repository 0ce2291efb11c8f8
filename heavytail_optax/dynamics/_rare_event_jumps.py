"""The big jumps of a path of the rare-event estimator, and their likelihood ratio."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._random_bits import threefry_2x32
from heavytail_optax._uniform import exponential_from_words, uniform_from_words
from heavytail_optax.dynamics._rare_event_plan import Plan

_OFTEN = 0.75  # what two bits decide


def words(key: Any, lane: jax.Array, draw: Any) -> tuple[jax.Array, jax.Array]:
    """64 bits, of a path and a number of the draw."""
    return threefry_2x32((key[0], key[1]), (lane, jnp.asarray(draw, jnp.uint32)))


def uniform(key: Any, lane: jax.Array, draw: Any) -> jax.Array:
    """In (0, 1]."""
    return uniform_from_words(*words(key, lane, draw), jnp.float64)


def exponential(key: Any, lane: jax.Array, draw: Any) -> jax.Array:
    """Of mean one."""
    return exponential_from_words(*words(key, lane, draw), jnp.float64)


def component_of(plan: Plan, lane: jax.Array) -> jax.Array:
    """The component of the mixture that a path draws from, by turns of ten.

    Drawn at random, it would add its own variance: where exits take one jump, most of
    it. The weights are those of the mixture all the same, so nothing is biased.
    """
    turn = (lane % jnp.uint32(10)).astype(jnp.float64)
    return jnp.searchsorted(plan.component_shares, (turn + 0.5) / 10.0)


class BigJumps(NamedTuple):
    """The big jumps of a path, drawn before it starts.

    Attributes:
      steps: when, in order; infinite behind the last. shape=(n_big + 1,).
      tails: `P(|w| > size)` of each. shape=(n_big,).
      is_positive: the sign of each. shape=(n_big,).
      ratio: the likelihood ratio of the path.
      first_draw: number of the first pair of random words that is free.
    """

    steps: jax.Array
    tails: jax.Array
    is_positive: jax.Array
    ratio: jax.Array
    first_draw: jax.Array


class _Jumps(NamedTuple):
    """What a tilted run changes; every entry of shape (n_big,).

    Attributes:
      gaps: before each jump, as standard exponentials.
      shares: `P(|w| > size) / H_g` of each.
      is_positive: the sign of each.
    """

    gaps: jax.Array
    shares: jax.Array
    is_positive: jax.Array


def _run_ratio(
    plan: Plan, jumps: _Jumps, count: jax.Array, shrinkage: jax.Array
) -> jax.Array:
    """Density of the jumps where a run of them is tilted, over their natural one.

    The mean over the runs and sides, for any of them may have been the tilted one.
    """
    (most,), places = jumps.shares.shape, plan.run_places.shape[0]
    index = jnp.arange(most)
    is_above = jumps.shares[:, None] <= plan.tilts[None]
    sizes = jnp.mean(jnp.where(is_above, 1.0 / plan.tilts, 0.0), axis=-1)
    short = jnp.exp(jumps.gaps * (1.0 - 1.0 / shrinkage)) / shrinkage
    length = plan.run_places.sum().astype(jnp.int32)
    total = jnp.zeros(())
    for share, to_side in ((0, ~jumps.is_positive), (1, jumps.is_positive)):
        signs = jnp.where(to_side, 2.0, 0.0)
        follows = 1.0 - _OFTEN + _OFTEN * short * signs
        follows = jnp.where(index < count, follows, 1.0)
        follows = jnp.pad(follows, (0, places), constant_values=1.0)
        runs = jax.lax.dynamic_slice(follows, (length,), (most,))
        for place in range(places):
            gap = 1.0 - _OFTEN + _OFTEN * short if place else 1.0
            factors = jnp.pad(signs * sizes * gap, (0, places))[place : place + most]
            runs *= jnp.where(plan.run_places[place] > 0.0, factors, 1.0)
        runs = jnp.where(index < count - length + 1, runs, 0.0)
        total += plan.side_shares[share] * runs.sum()
    return total / jnp.maximum(count - length + 1, 1)


def draw_big_jumps(plan: Plan, key: Any, lane: jax.Array) -> BigJumps:
    """Number, steps, sizes and signs.

    Where their number is forced, most paths have a tilted run among them: `l* - 1` jumps,
    at least one, to one side, each above the slack, since no way out has a smaller one,
    or at the bound, beyond which all lead to the same place. Most gaps within the run are
    short, as in a way out. So are most behind it, with a jump of any size to the same
    side: a path that comes to lie close to the end has much of the variance.
    """
    most = plan.count_laws.shape[1] - 1
    component = component_of(plan, lane)
    law = plan.count_laws[component]
    count = jnp.minimum(jnp.searchsorted(law, uniform(key, lane, 0)), most)
    index = jnp.arange(most + 1)
    gaps = jax.vmap(lambda i: exponential(key, lane, 1 + i))(index)
    tilt_draw, run_draw, side_draw, size_draw = (most + 2 + i for i in range(4))
    sign_draw, first_draw = size_draw + most, size_draw + 2 * most
    length = plan.run_places.sum()
    run = jnp.floor(
        jnp.maximum(count - length + 1.0, 1.0) * uniform(key, lane, run_draw)
    )
    is_tilted = (component > 0) & (uniform(key, lane, tilt_draw) < _OFTEN)
    jump = index[:-1]
    sign_words, coins = jax.vmap(lambda i: words(key, lane, sign_draw + i))(jump)
    is_often = (coins & jnp.uint32(3)) > 0
    is_in_run = is_tilted & (jump >= run) & (jump < run + length)
    follows = is_tilted & (jump == run + length) & (jump < count) & is_often
    is_short = (is_in_run & (jump > run) & is_often) | follows
    shrinkage = jnp.minimum(plan.short_gap * (count + 1.0), 1.0)
    gaps = gaps.at[:-1].multiply(jnp.where(is_short, shrinkage, 1.0))
    to_right = uniform(key, lane, side_draw) < plan.side_shares[1]
    is_positive = jnp.where(
        is_in_run | follows, to_right, sign_words < jnp.uint32(2**31)
    )
    tilt = plan.tilts[(coins >> jnp.uint32(31)).astype(jnp.int32)]
    shares = jax.vmap(lambda i: uniform(key, lane, size_draw + i))(jump)
    shares *= jnp.where(is_in_run, tilt, 1.0)
    jumps = _Jumps(gaps[:-1], shares, is_positive)
    run_ratio = _run_ratio(plan, jumps, count, shrinkage)
    forced = plan.forced_ratios[count] * (1.0 - _OFTEN + _OFTEN * run_ratio)
    # Order statistics of uniforms, without sorting, as shares of sums of exponentials.
    sums = jnp.cumsum(gaps)
    steps = jnp.ceil(plan.last_step * sums / sums[count])
    return BigJumps(
        steps=jnp.where(index < count, steps, jnp.inf),
        tails=shares * plan.big_tail,
        is_positive=is_positive,
        ratio=1.0 / (plan.natural_share + forced),
        first_draw=jnp.uint32(first_draw),
    )
