"""The upper tail of a stable law by quadrature of Nolan's integral, under jit.

The law is that of a map of an angle and an exponential W (`_stable_map`), monotone in
both: given W, the draws above x have their angle within some distance edge(W) of the
right end. So `P(Z > x) = E[edge(W)] / pi`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._axes import vary_like
from heavytail_optax.tails._stable_map import (
    StableConstants,
    angle_slope,
    angle_weight,
    stable_constants,
)

_HALF_PI = 0.5 * math.pi
_LOWEST, _HIGHEST = -80.0, 85.0  # of the logit below; e^-85 is still normal in float32
_SMALLEST = 2e-38  # of a distance to an end of the interval: normal in float32
_LARGEST_LOG = 80.0  # of a W: finite in float32, and exp(-W) is zero
_NODES = 400
_BISECTIONS = 60


class _Interval(NamedTuple):
    """The angles at which the draw is positive, up to pi/2; each field of shape ().

    A fully skewed law has one of these zero. It must be exactly so, since distances to
    the ends are resolved down to `_SMALLEST`: none is formed as a difference.
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
      logit: place of the angle in its interval on a logit scale, which resolves both
        ends.
      x: positive.
      law: constants of the law.
      interval: of the angles at which the draw is positive.
    """
    length = interval.length
    # A denormal is zero on most devices, and its logarithm infinite.
    from_start = jnp.maximum(length * jax.nn.sigmoid(logit), _SMALLEST)
    from_end = jnp.maximum(length * jax.nn.sigmoid(-logit), _SMALLEST)
    is_right = from_end <= _HALF_PI
    side = jnp.where(is_right, 1.0, -1.0).astype(x.dtype)
    edge = jnp.where(is_right, from_end, from_start + interval.gap)
    log_cos = jnp.log(jnp.sin(edge))
    log_weight = jnp.log(angle_weight(law, side, edge)) - log_cos

    # sqrt(1 + t^2) sin(alpha from_start), its argument measured from 0 or from pi.
    turn = law.alpha * from_start
    rest = law.alpha * from_end + interval.rest
    log_numerator = jnp.log(jnp.sin(jnp.minimum(turn, rest))) + 0.5 * jnp.log1p(
        law.shift**2
    )
    at_pole = law.eps == 0.0
    away = (law.alpha / jnp.where(at_pole, 1.0, law.eps)) * (
        log_numerator - jnp.log(x) - log_cos
    )
    tau = jnp.where(law.tau == 0.0, 1.0, law.tau)
    # The derivative of the slope holds the inverse square of edge, which must be finite.
    at = (angle_slope(law, side, jnp.maximum(edge, 1e-18)) - x) / tau
    return log_weight + jnp.where(at_pole, at, away)


def _upper_tail(x: jax.Array, law: StableConstants) -> jax.Array:
    """`P(Z > x)` for one positive x."""
    at_pole = law.eps == 0.0
    interval = _interval(law)
    length = interval.length
    log_threshold = functools.partial(_log_threshold, x=x, law=law, interval=interval)
    # The threshold grows towards the right end if P(W < threshold) is wanted, and
    # falls if P(W > threshold) is. The integrand turns where it exceeds its least
    # value, which is not zero where the tail is light, by one.
    grows = (law.eps > 0.0) | (at_pole & (law.beta > 0.0))
    lowest = jnp.asarray(_LOWEST, x.dtype)
    highest = jnp.asarray(_HIGHEST, x.dtype)
    w_left = jnp.exp(jnp.minimum(log_threshold(lowest), _LARGEST_LOG))
    w_right = jnp.exp(jnp.minimum(log_threshold(highest), _LARGEST_LOG))
    w_least = jnp.where(grows, w_left, w_right)
    target = jnp.log1p(w_least)

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        is_above = (log_threshold(middle) > target) == grows
        return jnp.where(is_above, low, middle), jnp.where(is_above, middle, high)

    ends = vary_like((lowest, highest), x)
    centre = jax.lax.fori_loop(0, _BISECTIONS, halve, ends)[0]
    _, steepness = jax.jvp(log_threshold, (centre,), (jnp.ones_like(centre),))
    finest = 64.0 * jnp.finfo(x.dtype).eps
    unit = jnp.clip(1.0 / jnp.abs(steepness), finest, 1.0)

    # Trapezoid in the v of logit = centre + unit sinh(v): fine where the integrand
    # turns, and all the way to both ends.
    first = jnp.arcsinh((lowest - centre) / unit)
    last = jnp.arcsinh((highest - centre) / unit)
    v = first + (last - first) * jnp.linspace(0.0, 1.0, _NODES, dtype=x.dtype)
    logit = centre + unit * jnp.sinh(v)
    log_w, slope = jax.jvp(log_threshold, (logit,), (jnp.ones_like(logit),))
    log_w = jnp.minimum(log_w, _LARGEST_LOG)
    weight = jnp.abs(slope) * jnp.exp(log_w - (jnp.exp(log_w) - w_least)) * jnp.cosh(v)
    weight = weight.at[jnp.asarray([0, -1])].multiply(0.5)
    total = jnp.sum(weight)
    # The law of W gives the sum exactly. Dividing by it keeps the result right where
    # the integrand turns too fast for the arithmetic.
    mean_edge = jnp.where(
        total > 0.0,
        jnp.sum(weight * jax.nn.sigmoid(-logit)) / jnp.where(total > 0.0, total, 1.0),
        jax.nn.sigmoid(-centre),
    )
    mass = jnp.exp(-w_least) * -jnp.expm1(-jnp.abs(w_left - w_right))
    outside = jnp.where(grows, -jnp.expm1(-w_left), jnp.exp(-w_left))
    inside = jnp.where(mass > 0.0, mean_edge * mass, 0.0)
    # An empty interval has no thresholds. NaN stays.
    integral = jnp.where(length == 0.0, 0.0, length / math.pi * (inside + outside))
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
