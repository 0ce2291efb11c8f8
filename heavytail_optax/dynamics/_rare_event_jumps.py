"""The big jumps of a path of the rare-event estimator, and their likelihood ratio."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from heavytail_optax._counter_based import threefry_2x32
from heavytail_optax._random import exponential_from_words, uniform_from_words
from heavytail_optax.dynamics._rare_event_plan import Plan

_TILTED = 0.75  # share of the paths whose number of big jumps is forced
_SHORT_OF_FOUR = 3  # short gaps out of four, within a run and after it


def words(
    key: jax.Array, lane: jax.Array, draw: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """64 bits for one path and one draw number."""
    return threefry_2x32((key[0], key[1]), (lane, jnp.asarray(draw, jnp.uint32)))


def uniform(key: jax.Array, lane: jax.Array, draw: ArrayLike) -> jax.Array:
    """A uniform in (0, 1]."""
    return uniform_from_words(*words(key, lane, draw), jnp.float64)


def exponential(key: jax.Array, lane: jax.Array, draw: ArrayLike) -> jax.Array:
    """An exponential with mean one."""
    return exponential_from_words(*words(key, lane, draw), jnp.float64)


def component_of(plan: Plan, lane: jax.Array) -> jax.Array:
    """The component of the mixture for a path, assigned in a cycle of ten.

    A random choice would add variance, and even most of it if exits take one jump. The
    weights are still those of the mixture, so nothing is biased.
    """
    turn = (lane % jnp.uint32(10)).astype(jnp.float64)
    return jnp.searchsorted(plan.component_shares, (turn + 0.5) / 10.0)


class BigJumps(NamedTuple):
    """The big jumps of a path, drawn before it starts.

    Attributes:
      steps: the steps of the jumps, in order; infinite after the last. shape=(n_big +
        1,).
      tails: `P(|w| > size)` of each jump. shape=(n_big,).
      is_positive: the sign of each jump. shape=(n_big,).
      ratio: the likelihood ratio of the path.
      first_draw: number of the first unused pair of random words.
    """

    steps: jax.Array
    tails: jax.Array
    is_positive: jax.Array
    ratio: jax.Array
    first_draw: ArrayLike


class _Jumps(NamedTuple):
    """The part of the jumps that a run changes; each field has shape (n_big,).

    Attributes:
      gaps: the gaps before each jump, as standard exponentials.
      shares: `P(|w| > size) / H_g` of each jump.
      is_positive: the sign of each jump.
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

    A run is `l* - 1` consecutive jumps, at least one, to one side. Each is larger than
    the slack, because no way out has a smaller one. Half of them are larger than the
    bound, beyond which all lead to the same place. Most gaps within the run are short.
    The jump after the run, of any size, mostly follows soon and to the same side,
    because paths that end just inside the end of the field cause much of the variance.

    Args:
      plan: the plan.
      jumps: jumps from their natural law.
      count: number of jumps.
      shrinkage: the mean of a short gap over that of a natural gap.
      draw: two uniforms, for the run and its side, and one word for each jump.
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
    """The density of the jumps under the law of `_with_run` over their natural density.

    It is the mean over all runs and both sides, because any of them may have made these
    jumps. Gaps are those after shrinking.
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
    """Draws the number of big jumps of a path, and the time, size and sign of each.

    If their number is forced, three paths of four have a run (`_with_run`). No weight
    exceeds one over the share of the paths that are drawn from the natural law.
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

    # Order statistics of uniforms without sorting: normalised sums of exponentials.
    sums = jnp.cumsum(jnp.append(jumps.gaps, gaps[-1]))
    steps = jnp.ceil(plan.last_step * sums / sums[count])
    return BigJumps(
        steps=jnp.where(jnp.arange(most + 1) < count, steps, jnp.inf),
        tails=jumps.shares * plan.big_tail,
        is_positive=jumps.is_positive,
        ratio=1.0 / (plan.natural_share + forced),
        first_draw=jnp.uint32(first_draw),
    )
