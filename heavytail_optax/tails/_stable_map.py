"""The map from an angle and an exponential to a stable variable.

Notation: `eps = 1 - alpha`. The angle is `V = side (pi/2 - edge)`; it is measured from
the edge of (-pi/2, pi/2), because the tail comes from there. `t = beta tan(pi alpha /
2)` has a pole at alpha = 1; `tau = eps t` has none. The numerators in textbooks cancel
if edge is small. Here they are expanded in edge, into terms of one sign. Removable
singularities at alpha = 1 are written with `sinc`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._elementary import exp2, log2, sin, sinc

_HALF_PI = 0.5 * math.pi


class StableConstants(NamedTuple):
    """Constants that depend only on alpha and beta; each field has shape ()."""

    alpha: jax.Array
    beta: jax.Array
    eps: jax.Array  # 1 - alpha
    scale: jax.Array  # cos(eps pi/2) = sin(alpha pi/2)
    width: jax.Array  # sin(eps pi/2) / eps
    tau: jax.Array  # eps t
    shift: jax.Array  # t, zero at alpha = 1


def stable_constants(alpha: jax.Array, beta: jax.Array) -> StableConstants:
    """The constants of the law S(alpha, beta, 1, 0)."""
    eps = 1.0 - alpha
    # It vanishes at alpha = 0 and 2, so alpha is measured from there.
    scale = jnp.sin(_HALF_PI * jnp.minimum(alpha, 2.0 - alpha))
    width = _HALF_PI * sinc(_HALF_PI * eps)
    tau = beta * scale / width
    at_pole = eps == 0.0
    shift = jnp.where(at_pole, 0.0, tau / jnp.where(at_pole, 1.0, eps))
    return StableConstants(alpha, beta, eps, scale, width, tau, shift)


def _fraction(law: StableConstants, edge: jax.Array) -> jax.Array:
    """`sin(eps edge) / sin(eps pi/2)`."""
    return edge * sinc(law.eps * edge) / law.width


def angle_weight(law: StableConstants, side: jax.Array, edge: jax.Array) -> jax.Array:
    """`cos(eps V) + t sin(eps V)`, positive, at full relative precision."""
    opposite = _HALF_PI - edge
    skewed = (1.0 + side * law.beta) * law.scale
    return _fraction(law, edge) + skewed * opposite * sinc(
        law.eps * opposite
    ) / law.width  # fmt: skip


def angle_slope(law: StableConstants, side: jax.Array, edge: jax.Array) -> jax.Array:
    """`A = (sin(alpha V) + t (cos(alpha V) - cos V)) / cos V`."""
    opposite = _HALF_PI - edge
    near = _fraction(law, edge)
    mixed = (
        (0.5 * law.eps / law.width)
        * ((_HALF_PI + edge) * opposite)
        * sinc(0.5 * law.eps * (_HALF_PI + edge))
        * sinc(0.5 * law.eps * opposite)
    )
    cos_part = (1.0 - near) * jnp.cos(law.alpha * edge)
    skewed = (side + law.beta) * law.scale
    even = skewed * (cos_part - mixed * jnp.sin(law.alpha * edge))
    odd = side * (near * jnp.cos(edge) - mixed * jnp.sin(edge))
    return (even + odd) / jnp.sin(edge)


def stable_draw(
    law: StableConstants, side: jax.Array, edge: jax.Array, exponential: jax.Array
) -> jax.Array:
    r"""The Chambers-Mallows-Stuck map, continuous in alpha and accurate at both edges.

    With the exponential W,

    .. math::
      X = (A + t)\, e^{\epsilon L}, \qquad
      L = \frac1\alpha \log \frac{\cos \epsilon V + t \sin \epsilon V}{W \cos V}.

    Args:
      law: the constants.
      side: +1 or -1.
      edge: distance of the angle from its edge, in (0, pi/2].
      exponential: standard exponentials, positive.

    Returns:
      Draws in the parameterisation S1. May be infinite.
    """
    slope = angle_slope(law, side, edge)
    log_ratio = (
        jnp.log(angle_weight(law, side, edge))
        - jnp.log(jnp.sin(edge))
        - jnp.log(exponential)
    ) / law.alpha
    exponent = law.eps * log_ratio
    is_zero = exponent == 0.0
    growth = log_ratio * jnp.where(
        is_zero, 1.0, jnp.expm1(exponent) / jnp.where(is_zero, 1.0, exponent)
    )
    power = jnp.exp(exponent)
    # Near the pole of t the product is split, so that only the last term is singular.
    # Far from the pole the product does not cancel, and it overflows to one infinity
    # only.
    return jnp.where(
        jnp.abs(law.eps) < 0.1,
        slope * power + law.tau * growth + law.shift,
        (slope + law.shift) * power,
    )


def symmetric_stable_draw(
    alpha: jax.Array, side: jax.Array, edge: jax.Array, exponential: jax.Array
) -> jax.Array:
    r"""The map of `stable_draw` for beta = 0, with one power and three sines.

    .. math::
      |X| = \frac{\sin \alpha |V|}{(\cos V)^{1/\alpha}}
            \Bigl(\frac{\cos \epsilon V}{W}\Bigr)^{\epsilon/\alpha}.

    The angles are sums of terms of one sign: `cos V` is `sin(edge)`; `cos(eps V)` is
    the sine of `(1 - |eps|) pi/2 + |eps| edge`; `sin(alpha |V|)` is the sine of `(2 -
    alpha) pi/2 + alpha edge`, or of its distance to pi.

    Args and returns as in `stable_draw`; 0 < alpha <= 2.
    """
    half_pi = jnp.asarray(_HALF_PI, edge.dtype)
    eps = 1.0 - alpha
    size = jnp.abs(eps)
    turn = jnp.minimum(
        (2.0 - alpha) * half_pi + alpha * edge, alpha * jnp.maximum(half_pi - edge, 0.0)
    )
    slant = jnp.minimum(alpha, 2.0 - alpha) * half_pi + size * edge
    log_power = (eps * log2(sin(slant) / exponential) - log2(sin(edge))) / alpha
    # In two halves: their product may saturate even if neither half does.
    root = exp2(0.5 * log_power)
    return side * (sin(turn) * root) * root
