"""The big jumps of a path of the rare-event estimator, and their likelihood ratio."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from heavytail_optax._random import (
    exponential_from_words,
    threefry_2x32,
    uniform_from_words,
)
from heavytail_optax.dynamics._rare_event_plan import Plan

_TILTED = 0.75  # of the paths whose number of big jumps is forced
_SHORT_OF_FOUR = 3  # of the gaps in a run and behind it


def words(
    key: jax.Array, lane: jax.Array, draw: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """64 bits, of a path and a number of the draw."""
    return threefry_2x32((key[0], key[1]), (lane, jnp.asarray(draw, jnp.uint32)))


def uniform(key: jax.Array, lane: jax.Array, draw: ArrayLike) -> jax.Array:
    """In (0, 1]."""
    return uniform_from_words(*words(key, lane, draw), jnp.float64)


def exponential(key: jax.Array, lane: jax.Array, draw: ArrayLike) -> jax.Array:
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
    first_draw: ArrayLike


class _Jumps(NamedTuple):
    """What a run changes; every entry of shape (n_big,).

    Attributes:
      gaps: before each jump, as standard exponentials.
      shares: `P(|w| > size) / H_g` of each.
      is_positive: the sign of each.
    """

    gaps: jax.Array
    shares: jax.Array
    is_positive: jax.Array


def _with_run(
    plan: Plan,
    jumps: _Jumps,
    count: jax.Array,
    shrinkage: jax.Array,
    draw: tuple[jax.Array, ...],
) -> _Jumps:
    """The jumps with a run among them.

    A run is `l* - 1` jumps one after another, at least one, to one side. Each is larger
    than the slack, since no way out has a smaller one; half of them are larger than the
    bound, beyond which all lead to the same place. Most gaps within the run are short,
    and mostly the jump behind it follows soon and to the same side, of whatever size: a
    path that comes to lie just inside the end has much of the variance.

    Args:
      plan: the plan.
      jumps: by their natural law.
      count: how many of them there are.
      shrinkage: the mean of a short gap over that of a natural one.
      draw: which run and to which side, two uniforms; and a word for each jump.
    """
    run, side, coins = draw
    index = jnp.arange(coins.shape[0])
    length = plan.run_places.sum()
    run = jnp.floor(jnp.maximum(count - length + 1.0, 1.0) * run)
    is_short = (coins & jnp.uint32(3)) >= jnp.uint32(4 - _SHORT_OF_FOUR)
    is_in_run = (index >= run) & (index < run + length)
    follows = (index == run + length) & (index < count) & is_short
    is_short &= is_in_run & (index > run)
    tilt = plan.tilts[(coins >> jnp.uint32(31)).astype(jnp.int32)]
    return _Jumps(
        jnp.where(is_short | follows, shrinkage, 1.0) * jumps.gaps,
        jnp.where(is_in_run, tilt, 1.0) * jumps.shares,
        jnp.where(is_in_run | follows, side < plan.side_shares[1], jumps.is_positive),
    )


def _run_ratio(
    plan: Plan, jumps: _Jumps, count: jax.Array, shrinkage: jax.Array
) -> jax.Array:
    """Density of the jumps under the law of `_with_run` over their natural one.

    The mean over all runs and the two sides, any of which may have made these jumps. Gaps
    are those after shrinking.
    """
    (most,), places = jumps.shares.shape, plan.run_places.shape[0]
    index = jnp.arange(most)
    often = _SHORT_OF_FOUR / 4.0
    is_above = jumps.shares[:, None] <= plan.tilts[None]
    sizes = jnp.mean(jnp.where(is_above, 1.0 / plan.tilts[None], 0.0), axis=-1)
    short = jnp.exp(jumps.gaps * (1.0 - 1.0 / shrinkage)) / shrinkage
    length = plan.run_places.sum().astype(jnp.int32)
    total = jnp.zeros(())
    for share, to_side in ((0, ~jumps.is_positive), (1, jumps.is_positive)):
        signs = jnp.where(to_side, 2.0, 0.0)
        follows = 1.0 - often + often * short * signs
        follows = jnp.where(index < count, follows, 1.0)
        follows = jnp.pad(follows, (0, places), constant_values=1.0)
        runs = jax.lax.dynamic_slice(follows, (length,), (most,))
        for place in range(places):
            gap = 1.0 - often + often * short if place else 1.0
            factors = jnp.pad(signs * sizes * gap, (0, places))[place : place + most]
            runs *= jnp.where(plan.run_places[place] > 0.0, factors, 1.0)
        runs = jnp.where(index < count - length + 1, runs, 0.0)
        total += plan.side_shares[share] * runs.sum()
    return total / jnp.maximum(count - length + 1, 1)


def draw_big_jumps(plan: Plan, key: jax.Array, lane: jax.Array) -> BigJumps:
    """How many big jumps a path makes, and when, how large and to which side each is.

    Where their number is forced, three paths of four have a run (`_with_run`). No weight
    is larger than one over the share of the paths drawn by the natural law.
    """
    most = plan.count_laws.shape[1] - 1
    index = jnp.arange(most)
    gap_draw, tilt_draw, run_draw, side_draw = 1, most + 2, most + 3, most + 4
    size_draw, sign_draw, first_draw = most + 5, 2 * most + 5, 3 * most + 5

    component = component_of(plan, lane)
    law = plan.count_laws[component]
    count = jnp.minimum(jnp.searchsorted(law, uniform(key, lane, 0)), most)
    gaps = jax.vmap(lambda i: exponential(key, lane, gap_draw + i))(
        jnp.arange(most + 1)
    )
    shares = jax.vmap(lambda i: uniform(key, lane, size_draw + i))(index)
    signs, coins = jax.vmap(lambda i: words(key, lane, sign_draw + i))(index)
    natural = _Jumps(gaps[:-1], shares, signs < jnp.uint32(2**31))

    shrinkage = jnp.minimum(plan.short_gap * (count + 1.0), 1.0)
    draw = (uniform(key, lane, run_draw), uniform(key, lane, side_draw), coins)
    with_run = _with_run(plan, natural, count, shrinkage, draw)
    is_tilted = (component > 0) & (uniform(key, lane, tilt_draw) < _TILTED)
    jumps = jax.tree.map(lambda *pair: jnp.where(is_tilted, *pair), with_run, natural)
    run_ratio = _run_ratio(plan, jumps, count, shrinkage)
    forced = plan.forced_ratios[count] * (1.0 - _TILTED + _TILTED * run_ratio)

    # Order statistics of uniforms, without sorting, as shares of sums of exponentials.
    sums = jnp.cumsum(jnp.append(jumps.gaps, gaps[-1]))
    steps = jnp.ceil(plan.last_step * sums / sums[count])
    return BigJumps(
        steps=jnp.where(jnp.arange(most + 1) < count, steps, jnp.inf),
        tails=jumps.shares * plan.big_tail,
        is_positive=jumps.is_positive,
        ratio=1.0 / (plan.natural_share + forced),
        first_draw=jnp.uint32(first_draw),
    )
