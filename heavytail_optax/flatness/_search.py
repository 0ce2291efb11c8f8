"""Bisection for the largest perturbation that a loss tolerates."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._result_text import short_repr
from heavytail_optax._typing import PyTree, Scalar
from heavytail_optax._validation import (
    check_positive,
    check_scalar,
    in_float32,
    value_error,
)


class SharpnessSearch(NamedTuple):
    """The course of the search for a radius, a standard deviation or a step.

    Attributes:
      hit_lower: whether the smallest size is already too large: its deviation exceeds
        the target, or no step lowers the loss. Then the true size is smaller than
        reported. shape=(), dtype=bool.
      hit_upper: whether the largest size is still within the target, or does not raise
        the loss. Then the true size is larger than reported. shape=(), dtype=bool.
      num_evaluations: number of evaluations of the loss, or of its gradient for
        `maximal_sharpness`. shape=(), dtype=int32.
    """

    hit_lower: jax.Array
    hit_upper: jax.Array
    num_evaluations: jax.Array

    __repr__ = short_repr


def in_words(sharpness: str, search: SharpnessSearch) -> str:
    """A sharpness, of which a search that hit a bound knows one side, and its cost."""
    # The smaller the size that was looked for, the larger the sharpness.
    side = "at least " * bool(search.hit_lower) + "at most " * bool(search.hit_upper)
    return f"{side}{sharpness} after {search.num_evaluations} evaluations"


class Bisection(NamedTuple):
    """The state of a search.

    Attributes:
      step: number of evaluations of the function. shape=(), dtype=int32.
      low: the largest size known to be within the target, or the lower bound if none
        is. shape=().
      high: the smallest size known to exceed it, or the upper bound if none does.
      at_low: value of the function at `low`: (deviation, anything).
      at_high: value of the function at `high`.
      hit_lower: whether the lower bound already exceeds the target. dtype=bool.
      hit_upper: whether the upper bound is still within it. dtype=bool.
    """

    step: jax.Array
    low: jax.Array
    high: jax.Array
    at_low: tuple[jax.Array, PyTree]
    at_high: tuple[jax.Array, PyTree]
    hit_lower: jax.Array
    hit_upper: jax.Array


def check_bounds(
    function: str, lower: Scalar, upper: Scalar, tolerance: Scalar
) -> None:
    """Checks the bounds of a search and the width at which it ends.

    Raises:
      TypeError: if a setting is not a real number.
      ValueError: if a bound is not positive and finite in float32, the bounds are not in
        order, or the tolerance is not in (0, 1].
    """
    accepted = "a positive number, finite in float32"
    for name, bound in (("lower", lower), ("upper", upper)):
        check_scalar(
            function, name, bound, accepted, lambda x: 0.0 < in_float32(x) < math.inf
        )
    both = all(isinstance(bound, (int, float)) for bound in (lower, upper))
    if both and lower >= upper:
        raise value_error(function, "upper", f"above `lower`, {lower}", upper)
    check_scalar(
        function,
        "tolerance",
        tolerance,
        "a number above 0, at most 1",
        lambda value: 0.0 < value <= 1.0,
    )


def check_search(
    function: str, target: Scalar, lower: Scalar, upper: Scalar, tolerance: Scalar
) -> None:
    """Checks the settings of a search for a target.

    Raises:
      TypeError: if a setting is not a real number.
      ValueError: if the target is not positive and finite, or as for `check_bounds`.
    """
    check_positive(function, "target", target)
    check_bounds(function, lower, upper, tolerance)


def largest_within(
    deviation: Callable[[jax.Array], tuple[jax.Array, PyTree]],
    target: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    tolerance: jax.Array,
) -> Bisection:
    """Bisection on the logarithmic scale for the largest size within the target.

    It tries the upper bound first, then the lower bound, and then the geometric mean of
    the bracket, until the ends are within a factor of `1 + tolerance`. A deviation of
    NaN counts as above the target.

    Args:
      deviation: function from a size, shape=(), to (its deviation, anything). If it is
        not increasing, the search finds one of its crossings of the target.
      target: largest accepted deviation, shape=().
      lower: smallest size, positive, shape=().
      upper: largest size, shape=().
      tolerance: shape=().
    """

    def middle(search: Bisection) -> jax.Array:
        return jnp.sqrt(search.low) * jnp.sqrt(search.high)

    def goes_on(search: Bisection) -> jax.Array:
        between = (search.low < middle(search)) & (middle(search) < search.high)
        is_wide = between & (search.high > search.low * (1.0 + tolerance))
        has_hit = search.hit_lower | search.hit_upper
        return (search.step == 0) | (~has_hit & ((search.step == 1) | is_wide))

    def next_search(search: Bisection) -> Bisection:
        is_first, is_second = search.step == 0, search.step == 1
        size = jnp.where(is_first, upper, jnp.where(is_second, lower, middle(search)))
        found = deviation(size)
        is_within = found[0] <= target
        becomes_low, becomes_high = is_within | is_second, ~is_within | is_first

        def pick(condition, new, old):
            return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)

        return Bisection(
            step=search.step + 1,
            low=pick(becomes_low, size, search.low),
            high=pick(becomes_high, size, search.high),
            at_low=pick(becomes_low, found, search.at_low),
            at_high=pick(becomes_high, found, search.at_high),
            hit_lower=is_second & ~is_within,
            hit_upper=is_first & is_within,
        )

    nothing = jax.tree.map(
        lambda x: jnp.full(x.shape, jnp.nan, x.dtype), jax.eval_shape(deviation, lower)
    )
    no = jnp.asarray(False)
    start = Bisection(jnp.zeros((), jnp.int32), lower, upper, nothing, nothing, no, no)
    return jax.lax.while_loop(goes_on, next_search, start)
