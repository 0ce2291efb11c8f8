"""Maximal sharpness: the largest ball in which the worst-case loss stays within `t`."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._result_text import is_one_number, short_repr
from heavytail_optax._typing import Key, Params, PyTree, Scalar
from heavytail_optax._validation import (
    check_bool,
    check_count,
    check_positive,
    type_error,
    value_error,
)
from heavytail_optax.flatness._arguments import (
    Loss,
    check_args,
    check_finite,
    check_floor,
    check_loss,
    check_params,
)
from heavytail_optax.flatness._ascent import Ball, largest_rise
from heavytail_optax.flatness._loss_changes import loss_at
from heavytail_optax.flatness._memory import evaluations_at_once
from heavytail_optax.flatness._search import (
    SharpnessSearch,
    check_search,
    in_words,
    largest_within,
)

_NAME = "maximal_sharpness"


class MaximalSettings(NamedTuple):
    """The settings of a maximal sharpness: the arguments with these names."""

    target: Scalar
    lower: Scalar
    upper: Scalar
    tolerance: Scalar
    order: float
    num_steps: int
    step_size: Scalar
    num_restarts: int
    adaptive: bool
    floor: Scalar

    __repr__ = short_repr


class MaximalSharpness(NamedTuple):
    """Result of `maximal_sharpness`; numbers are at least float32.

    Attributes:
      sharpness: `1 / radius^2`. shape=().
      radius: the largest radius whose worst deviation is within the target. shape=().
      deviation: the worst deviation found at that radius. shape=().
      search: the `SharpnessSearch`: whether it hit a bound, and what it cost.
      settings: the `MaximalSettings`.
    """

    sharpness: jax.Array
    radius: jax.Array
    deviation: jax.Array
    search: SharpnessSearch
    settings: MaximalSettings

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.sharpness):
            return repr(self)
        found = in_words(f"{self.sharpness:.4g}", self.search)
        where = f"radius {self.radius:.4g}, deviation {self.deviation:.4g}"
        return f"maximal sharpness {found}: {where}"


def check_order(function: str, order: object) -> float:
    """The order of a norm, as a float.

    Raises:
      TypeError: if it is not a number.
      ValueError: if it is neither 2 nor infinity.
    """
    accepted = "2 or infinity"
    if isinstance(order, bool) or not isinstance(order, (int, float)):
        raise type_error(function, "order", accepted, order)
    if order not in (2, math.inf):
        raise value_error(function, "order", accepted, order)
    return float(order)


@functools.partial(
    jax.jit,
    static_argnames=(
        "loss_fn",
        "deviation_fn",
        "order",
        "adaptive",
        "num_steps",
        "num_restarts",
        "at_once",
    ),
)
def _search(
    loss_fn: Loss,
    deviation_fn: Loss | None,
    params: Params,
    args: tuple[PyTree, ...],
    key: jax.Array,
    loss: jax.Array,
    numbers: tuple[jax.Array, ...],
    *,
    order: float,
    adaptive: bool,
    num_steps: int,
    num_restarts: int,
    at_once: int,
):
    target, lower, upper, tolerance, floor, step_size = numbers

    def deviation(radius: jax.Array) -> tuple[jax.Array, None]:
        rise = largest_rise(
            loss_fn=loss_fn,
            deviation_fn=deviation_fn,
            params=params,
            args=args,
            key=key,
            loss=loss,
            radius=radius,
            ball=Ball(order, adaptive, floor),
            num_steps=num_steps,
            step_size=step_size,
            num_restarts=num_restarts,
            at_once=at_once,
        )
        return rise, None

    return largest_within(deviation, target, lower, upper, tolerance)


def maximal_sharpness(
    loss_fn: Loss,
    params: Params,
    *,
    key: Key,
    args: tuple[PyTree, ...] = (),
    deviation_fn: Loss | None = None,
    target: Scalar = 0.1,
    lower: Scalar = 1e-5,
    upper: Scalar = 10.0,
    tolerance: Scalar = 0.01,
    order: float = 2,
    num_steps: int = 20,
    step_size: Scalar = 2.0,
    num_restarts: int = 1,
    adaptive: bool = False,
    floor: Scalar = 0.0,
) -> MaximalSharpness:
    r"""Maximal sharpness: `1 / alpha^2`, where alpha is the largest tolerated radius.

    .. math::
      \alpha = \max\Bigl\{r : \max_{\|u\|_p \le r}
      L(\theta + u) - L(\theta) \le t\Bigr\},

    So alpha is the largest radius at which the worst-case loss rises by at most
    `target`. If `adaptive`, the constraint is `|u / (r |theta| + epsilon)|_p <= 1`,
    entry by entry; with `epsilon = 0` the measure does not change when the network is
    rescaled. For a quadratic loss at its minimum and p = 2, `alpha^2 = 2 t /
    lambda_max`.

    The inner maximum comes from projected gradient ascent from random points of the
    sphere. The steps follow the steepest direction of the norm and shrink linearly from
    `step_size` radii to zero; the best point seen counts. This is a lower bound on the
    maximum, so alpha may be overestimated, but not underestimated. More steps and
    restarts make it more accurate. Alpha is found by bisection on the logarithmic
    scale, with the same starting points for each radius. A loss that is not finite
    exceeds every target. The result depends on the settings, so they are kept in it.

    Cost: `num_restarts * num_steps` gradients and `num_restarts` evaluations of the
    loss for each step of the search. It takes at most
    `2 + log2(log(upper / lower) / log(1 + tolerance))` steps, 13 with the defaults.

    Args:
      loss_fn: L, called as `loss_fn(params, *args)`, that returns one floating number
        and is differentiable.
      params: theta, a pytree of floating arrays.
      key: key of the starting points: an integer seed, a typed key or a legacy key.
      args: the data, and any other arguments of the loss after the parameters.
      deviation_fn: called like `loss_fn`. If given, its rise counts, and the loss only
        guides the ascent. An example is the share of wrongly classified examples. It
        adds an evaluation for each gradient.
      target: t, the accepted rise, positive.
      lower: smallest r, positive; in units of the weights, or relative to them if
        `adaptive`.
      upper: largest r.
      tolerance: relative width of the bracket at which the search ends, at most 1.
      order: p, 2 (a ball over all parameters together) or infinity (a box).
      num_steps: steps of each ascent.
      step_size: of the first step, in radii, positive.
      num_restarts: ascents from different points; the worst counts.
      adaptive: whether the radius of every parameter is in proportion to it.
      floor: epsilon, at least 0, in units of the weights; only for `adaptive`.

    Returns:
      A `MaximalSharpness`. Under `jit`, the settings in it are arrays, too.

    Raises:
      TypeError: if an argument has the wrong type, a leaf of `params` is not floating,
        or the loss not a floating number.
      ValueError: if `params` or an array of `args` is empty, the loss is not a scalar
        or not finite at `params`, a setting is out of its range, or a count below one.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> curvature = jnp.array([1.0, 2.0, 5.0])
      >>> result = hto.flatness.maximal_sharpness(
      ...     lambda w, h: 0.5 * jnp.sum(h * w**2), jnp.zeros(3), key=0, args=(curvature,)
      ... )
      >>> bool(abs(result.sharpness / (5.0 / (2 * 0.1)) - 1.0) < 0.03)
      True

    References:
      Keskar et al., ICLR 2017 (arXiv 1609.04836), for the box; Jiang et al., ICLR 2020
      (arXiv 1912.02178), for the search; Kwon et al., ICML 2021 (arXiv 2102.11600), and
      Andriushchenko et al., ICML 2023 (arXiv 2302.07011), for the adaptive ball.
    """
    params = check_params(_NAME, params)
    check_key(_NAME, key)
    args = check_args(_NAME, args)
    check_search(_NAME, target, lower, upper, tolerance)
    order = check_order(_NAME, order)
    num_steps = check_count(_NAME, "num_steps", num_steps)
    check_positive(_NAME, "step_size", step_size)
    num_restarts = check_count(_NAME, "num_restarts", num_restarts)
    adaptive = check_bool(_NAME, "adaptive", adaptive)
    check_floor(_NAME, floor, adaptive)
    loss_fn = check_loss(_NAME, loss_fn, params, args)
    counted, counted_name = loss_fn, "loss_fn"
    if deviation_fn is not None:
        counted_name = "deviation_fn"
        deviation_fn = check_loss(_NAME, deviation_fn, params, args, counted_name)
        check_finite(_NAME, loss_at(loss_fn, params, args))
        counted = deviation_fn
    loss = check_finite(_NAME, loss_at(counted, params, args), counted_name)
    at_once = evaluations_at_once(jax.value_and_grad(loss_fn), params, *args)
    numbers = (target, lower, upper, tolerance, floor, step_size)
    search = _search(
        loss_fn,
        deviation_fn,
        params,
        args,
        tagged_key(key, _NAME),
        loss,
        tuple(jnp.asarray(x, loss.dtype) for x in numbers),
        order=order,
        adaptive=adaptive,
        num_steps=num_steps,
        num_restarts=num_restarts,
        at_once=min(at_once, num_restarts),
    )
    return MaximalSharpness(
        sharpness=search.low**-2.0,
        radius=search.low,
        deviation=search.at_low[0],
        search=SharpnessSearch(
            hit_lower=search.hit_lower,
            hit_upper=search.hit_upper,
            num_evaluations=num_restarts * num_steps * search.step,
        ),
        settings=MaximalSettings(
            target=target,
            lower=lower,
            upper=upper,
            tolerance=tolerance,
            order=order,
            num_steps=num_steps,
            step_size=step_size,
            num_restarts=num_restarts,
            adaptive=adaptive,
            floor=floor,
        ),
    )
