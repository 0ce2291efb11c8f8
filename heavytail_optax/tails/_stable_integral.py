"""The upper tail of a stable law by quadrature of Nolan's integral, under jit.

The law is that of a map of an angle and an exponential W (`_stable_map`). The map is
monotone in both: at each angle, the draw is above x on one side of a threshold of W. So
`P(Z > x)` is the mean over the angle of `P(W > threshold)`, or of `P(W < threshold)`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._pytrees import vary_like
from heavytail_optax.tails._stable_map import (
    StableConstants,
    angle_slope,
    angle_weight,
    stable_constants,
)

_HALF_PI = 0.5 * math.pi
_LARGEST_LOG = 7.0  # of a threshold: exp(-exp(7)) is zero, in float64 too
# Panels end at these thresholds, counted from the least one, and at these distances of
# the logit from two places. Within a panel the integrand is then close to a polynomial.
_THRESHOLDS = (1.0, 1e-16, 6e-6, 0.02, 4.0, 12.0, 25.0, 40.0, 70.0)
_DISTANCES = (1.5, 4.0, 9.0, 18.0, 40.0)  # e^-40 is below the rounding error


class _Interval(NamedTuple):
    """The angles at which the draw is positive, up to pi/2; each field of shape ().

    In a fully skewed law, one of these is zero. It must be exactly zero, because
    distances to the ends are resolved down to the smallest float. So none is computed
    as a difference.
    """

    length: jax.Array  # pi at alpha = 1
    gap: jax.Array  # from -pi/2 to the first of them
    rest: jax.Array  # pi - alpha length


def _interval(law: StableConstants) -> _Interval:
    """The interval, by the addition theorem of the tangent."""
    at_pole = law.eps == 0.0
    sign = jnp.where(law.eps < 0.0, -1.0, 1.0).astype(law.eps.dtype)
    cosine = jnp.abs(law.width * law.eps)  # of alpha pi/2, as `scale` is the sine
    product = jnp.where(at_pole, 1.0, law.scale * cosine)
    right = sign * (cosine**2 - law.beta * law.scale**2)
    left = sign * (cosine**2 + law.beta * law.scale**2)
    length = jnp.arctan2((1.0 + law.beta) * product, right) / law.alpha
    gap = jnp.arctan2((1.0 - law.beta) * product, left) / law.alpha
    rest = jnp.arctan2((1.0 + law.beta) * product, -right)
    return _Interval(
        jnp.where(at_pole, math.pi, length),
        jnp.where(at_pole, 0.0, gap),
        jnp.where(at_pole, 0.0, rest),
    )


def _log_threshold(
    logit: jax.Array, x: jax.Array, law: StableConstants, interval: _Interval
) -> jax.Array:
    """Log of the W at which the draw passes x, at one angle.

    Args:
      logit: position of the angle in its interval, on a logit scale, which resolves
        both ends.
      x: positive.
      law: constants of the law.
      interval: the angles at which the draw is positive.
    """
    # A denormal is zero on most devices, and its logarithm infinite.
    smallest = 4.0 * jnp.finfo(x.dtype).tiny
    from_start = jnp.maximum(interval.length * jax.nn.sigmoid(logit), smallest)
    from_end = jnp.maximum(interval.length * jax.nn.sigmoid(-logit), smallest)
    is_right = from_end <= _HALF_PI
    side = jnp.where(is_right, 1.0, -1.0).astype(x.dtype)
    edge = jnp.where(is_right, from_end, from_start + interval.gap)
    log_cos = jnp.log(jnp.sin(edge))
    log_weight = jnp.log(angle_weight(law, side, edge)) - log_cos
    is_pole = law.eps == 0.0

    def at_pole():
        tau = jnp.where(law.tau == 0.0, 1.0, law.tau)
        return (angle_slope(law, side, edge) - x) / tau

    def away():
        # The sine of alpha from_start, with its argument measured from 0 or from pi.
        turn = law.alpha * from_start
        rest = law.alpha * from_end + interval.rest
        log_sine = jnp.log(jnp.sin(jnp.maximum(jnp.minimum(turn, rest), smallest)))
        # Next to the pole x is close to the root where it matters: a small logarithm.
        log_size = jnp.log(x / jnp.sqrt(1.0 + law.shift**2))
        power = law.alpha / jnp.where(is_pole, 1.0, law.eps)
        return power * (log_sine - log_cos - log_size)

    return log_weight + jax.lax.cond(is_pole, at_pole, away)


def _panel_ends(
    x: jax.Array, law: StableConstants, interval: _Interval, grows: jax.Array
) -> jax.Array:
    """Logits between which the integrand is smooth; beyond them it is negligible.

    The integrand has two scales. The share of the angles changes by factors over one
    unit of the logit. The threshold usually does so, too. For alpha close to 1,
    however, it changes within a tiny part of a unit, where it passes one; bisection
    finds the ends there.
    """
    log_threshold = functools.partial(_log_threshold, x=x, law=law, interval=interval)
    distances = jnp.asarray(_DISTANCES, x.dtype)
    lowest = -distances[-1]
    highest = -jnp.log(jnp.finfo(x.dtype).tiny) - 4.0
    last = jnp.exp(jnp.minimum(log_threshold(highest), _LARGEST_LOG))
    # Where the tail is light, even the least threshold is not zero.
    least = jnp.where(grows, 0.0, last)
    targets = jnp.log(least + jnp.asarray(_THRESHOLDS, x.dtype))

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        is_above = (log_threshold(middle) > targets) == grows
        return jnp.where(is_above, low, middle), jnp.where(is_above, middle, high)

    bracket = vary_like(
        (jnp.full_like(targets, lowest), jnp.full_like(targets, highest)), x
    )
    num_halvings = jnp.finfo(x.dtype).nmant + 8
    turns, _ = jax.lax.fori_loop(0, num_halvings, halve, bracket)
    # From the logit 0, where half of the angles lie, to the first turn.
    centre = jnp.maximum(turns[0], 0.0)
    ends = (
        -distances,
        jnp.minimum(distances, centre),
        jnp.maximum(centre - distances, 0.0),
        centre + distances,
        jnp.minimum(turns, centre + distances[-1]),
    )
    return jnp.sort(jnp.concatenate(ends))


def _upper_tail(x: jax.Array, law: StableConstants) -> jax.Array:
    """`P(Z > x)` for one positive x."""
    at_pole = law.eps == 0.0
    interval = _interval(law)
    # Whether the threshold grows towards the right end; then W has to be below it.
    grows = (law.eps > 0.0) | (at_pole & (law.beta > 0.0))
    # The derivative of Gauss's rule holds its nodes fixed.
    fixed = jax.lax.stop_gradient((x, law, interval))
    ends = _panel_ends(*fixed, grows)
    num_nodes = 14 if x.dtype == jnp.float64 else 10
    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
    half = 0.5 * jnp.diff(ends)[:, None]
    logit = ends[:-1, None] + half * jnp.asarray(1.0 + nodes, x.dtype)[None]
    weight = half * jnp.asarray(weights, x.dtype)[None]
    angles = weight * jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)
    log_threshold = _log_threshold(logit, x, law, interval)
    threshold = jnp.exp(jnp.minimum(log_threshold, _LARGEST_LOG))
    above = jnp.where(grows, -jnp.expm1(-threshold), jnp.exp(-threshold))
    # An empty interval has no thresholds. NaN stays NaN.
    share = jnp.where(interval.length == 0.0, 0.0, interval.length / math.pi)
    integral = jnp.where(share == 0.0, 0.0, share * jnp.sum(angles * above))
    cauchy = jnp.arctan(1.0 / x) / math.pi
    return jnp.where(at_pole & (law.beta == 0.0), cauchy, integral)


def stable_upper_tail(x: jax.Array, alpha: jax.Array, beta: jax.Array) -> jax.Array:
    """`P(Z > x)` for `Z ~ S(alpha, beta, 1, 0)` and positive x, elementwise.

    Args:
      x: positive, any shape.
      alpha: in (0, 2], shape ().
      beta: in [-1, 1], shape ().

    Returns:
      Probabilities of the shape of x.

    References:
      Nolan, "Numerical calculation of stable densities and distribution functions",
      Stochastic Models 13 (1997), theorem 1.
    """
    law = stable_constants(alpha, beta)
    flat = jax.lax.map(lambda value: _upper_tail(value, law), x.ravel(), batch_size=256)
    return flat.reshape(x.shape)
