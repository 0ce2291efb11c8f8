"""Laws of draws above a threshold, as densities of `y = log(X / threshold)`.

Each function takes the parameters of a law and the y >= 0 of the draws. It returns the
log-density of each y, given that the draw is above the threshold.
"""

import jax
import jax.numpy as jnp

from heavytail_optax._pytrees import vary_like
from heavytail_optax.tail_index._sums import sums
from heavytail_optax.tails._stable_integral import stable_upper_tail

_STABLE_POINTS = 48


def _excess_of_hazard(w: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For the normal law: `h = hazard(w) - w`, `(1 - w h) / h^2` and the log hazard.

    The second is the mean square over the squared mean of a normal law truncated at w
    standard deviations. It grows from 1 to 2. For large w both come from the continued
    fraction `h = 1 / (w + 2 / (w + 3 / (w + ...)))`, where nothing cancels.
    """
    is_large = w > 2.0
    far = jnp.where(is_large, w, 2.0)
    tail = far
    for n in range(60, 2, -1):
        tail = far + n / tail
    tail = 2.0 / tail
    near = jnp.where(is_large, 0.0, w)
    log_density = -0.5 * near**2 - 0.5 * jnp.log(2.0 * jnp.pi)
    log_hazard = log_density - jax.scipy.special.log_ndtr(-near)
    h = jnp.exp(log_hazard) - near
    return (
        jnp.where(is_large, 1.0 / (far + tail), h),
        jnp.where(is_large, tail * (far + tail), (1.0 - near * h) / h**2),
        jnp.where(is_large, jnp.log(far + 1.0 / (far + tail)), log_hazard),
    )


def lognormal_fit(
    y: jax.Array, count: jax.Array | int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The maximum likelihood lognormal law: mu, sigma and the log-densities.

    After the first `count` of y there are zeros, which do not count.

    Above the threshold, y has a normal law truncated at zero. So the fit matches the
    mean and the mean square of the y. Bisection finds the truncation point from their
    ratio. No such law has a ratio of 2 or above; the best fit is then the limit, which
    is the power law.
    """
    unit = sums(y)[0] / count
    scaled = y / unit
    target = sums(scaled**2)[0] / count

    # The loop returns what it has computed last, so that this is compiled once.
    def halve(_, state):
        low, high, *_ = state
        w = 0.5 * (low + high)
        h, ratio, log_hazard = _excess_of_hazard(w)
        is_below = ratio < target
        low, high = jnp.where(is_below, w, low), jnp.where(is_below, high, w)
        return low, high, w, h, log_hazard

    start = tuple(jnp.asarray(x, y.dtype) for x in (-20.0, 60.0, 0.0, 0.0, 0.0))
    state = jax.lax.fori_loop(0, 50, halve, vary_like(start, y[0]))
    _, _, w, h, log_hazard = state
    exponent = h * scaled * (w + 0.5 * h * scaled)
    each = jnp.log(h) + log_hazard - exponent - jnp.log(unit)
    return -w / h * unit, unit / h, each


def _student_log_tail(df: jax.Array, x: jax.Array) -> jax.Array:
    """`log P(T > x)` for one positive x, by the integral of `tails.student_t`.

    Returns the logarithm, because the probability itself may underflow during a search.
    """
    reach = -jnp.log(jnp.finfo(x.dtype).eps)
    w = jnp.linspace(-reach, reach, 512, dtype=x.dtype)
    log_ratio = 2.0 * jnp.log(x) - jnp.log(df) + jnp.logaddexp(0.0, 2.0 * w)
    log_terms = -0.5 * df * jnp.logaddexp(0.0, log_ratio) - jnp.log(jnp.cosh(w))
    step = w[1] - w[0]
    return jax.nn.logsumexp(log_terms) + jnp.log(0.5 * step / jnp.pi)


def student_log_density(df: jax.Array, log_scale: jax.Array, y: jax.Array):
    """Student's two-sided t law with a scale, in units of the threshold."""
    start = jnp.exp(-log_scale)
    x = start * jnp.exp(y)
    log_constant = (
        jax.scipy.special.gammaln(0.5 * (df + 1.0))
        - jax.scipy.special.gammaln(0.5 * df)
        - 0.5 * jnp.log(df * jnp.pi)
    )
    # log(1 + x^2 / df) without overflow.
    log_ratio = 2.0 * jnp.log(x) - jnp.log(df)
    density = log_constant - 0.5 * (df + 1.0) * jnp.logaddexp(0.0, log_ratio)
    return density + jnp.log(x) - _student_log_tail(df, start)


def _catmull_rom(values: jax.Array, place: jax.Array) -> jax.Array:
    """Cubic interpolation of values at 0, 1, 2, ... at the given places."""
    last = values.shape[0] - 1
    index = jnp.clip(jnp.floor(place).astype(jnp.int32), 1, last - 2)
    u = place - index
    before, left, right, after = (values[index + step] for step in (-1, 0, 1, 2))
    slope = 0.5 * (right - before)
    next_slope = 0.5 * (after - left)
    rise = right - left
    quadratic = 3.0 * rise - 2.0 * slope - next_slope
    cubic = slope + next_slope - 2.0 * rise
    return left + u * (slope + u * (quadratic + u * cubic))


def stable_log_density(alpha: jax.Array, log_scale: jax.Array, y: jax.Array):
    """A symmetric stable law with a scale, in units of the threshold.

    The density is the derivative of the tail's integral. It is computed at about fifty
    points, equally spaced in log x, and interpolated.
    """
    reach = jnp.max(y)
    reach = jnp.where(reach > 0.0, reach, 1.0)
    # One point beyond each end, so that the cubic is centred everywhere.
    inner = _STABLE_POINTS - 3
    place = (jnp.arange(_STABLE_POINTS, dtype=y.dtype) - 1.0) / inner
    log_x = reach * place - log_scale
    beta = jnp.zeros((), y.dtype)
    _, slope = jax.jvp(
        lambda at: stable_upper_tail(jnp.exp(at), alpha, beta),
        (log_x,),
        (jnp.ones_like(log_x),),
    )
    mass = stable_upper_tail(jnp.exp(-log_scale), alpha, beta)
    tiny = jnp.finfo(y.dtype).tiny
    log_density = jnp.log(jnp.maximum(-slope, tiny)) - jnp.log(jnp.maximum(mass, tiny))
    return _catmull_rom(log_density, y / reach * inner + 1.0)
