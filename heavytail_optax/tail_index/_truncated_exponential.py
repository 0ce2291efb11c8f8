"""The exponential law on an interval: its likelihood, and whether draws fit it."""

import jax
import jax.numpy as jnp

from heavytail_optax.tail_index._sums import sums

_SMALL = 0.5  # below it, series with four terms are exact in float32
_HALVINGS = 40
_DOUBLINGS = 12


def log_mass(u: jax.Array) -> jax.Array:
    """`log((1 - exp(-u)) / u)`: the integral of `exp(-u x)` from 0 to 1."""
    half = 0.5 * jnp.abs(u)
    is_small = half < 0.5 * _SMALL
    square = jnp.where(is_small, half, 0.0) ** 2
    series = square * (
        1 / 6 - square * (1 / 180 - square * (1 / 2835 - square / 37800))
    )
    large = jnp.where(is_small, 1.0, half)
    exact = large + jnp.log(-jnp.expm1(-2.0 * large) / (2.0 * large))
    return -0.5 * u + jnp.where(is_small, series, exact)


def mean_place(u: jax.Array) -> jax.Array:
    """The mean of the law on [0, 1] whose density is proportional to `exp(-u x)`."""
    is_small = jnp.abs(u) < _SMALL
    small, large = jnp.where(is_small, u, 0.0), jnp.where(is_small, 1.0, u)
    square = small**2
    series = small * (
        1 / 12 - square * (1 / 720 - square * (1 / 30240 - square / 1209600))
    )
    size = jnp.abs(large)
    of_size = 1.0 / size + jnp.exp(-size) / jnp.expm1(-size)
    exact = jnp.where(large > 0.0, of_size, 1.0 - of_size)
    return jnp.where(is_small, 0.5 - series, exact)


def variance_of_place(u: jax.Array) -> jax.Array:
    """The variance of the same law."""
    size = jnp.abs(u)
    is_small = size < _SMALL
    square = jnp.where(is_small, u, 0.0) ** 2
    series = 1 / 12 - square * (1 / 240 - square * (1 / 6048 - square / 172800))
    large = jnp.where(is_small, 1.0, size)
    exact = 1.0 / large**2 - jnp.exp(-large) / jnp.expm1(-large) ** 2
    return jnp.where(is_small, series, exact)


def slope_of_mean(mean: jax.Array) -> jax.Array:
    """The u of the law on [0, 1] with this mean, between 0 and 1, by bisection."""

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        is_beyond = mean_place(middle) < mean
        return jnp.where(is_beyond, low, middle), jnp.where(is_beyond, middle, high)

    low, high = -1.0 / (1.0 - mean), 1.0 / mean
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))
    u = 0.5 * (low + high)
    step = (mean_place(u) - mean) / variance_of_place(u)
    # The ends of the search are not reached unless the mean is extreme.
    return jnp.clip(u + step, -1.0 / (1.0 - mean), 1.0 / mean)


def slope_interval(
    u: jax.Array, mean: jax.Array, count: jax.Array, z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The slopes whose signed root of the likelihood ratio is within -z and z.

    Args:
      u: the most likely slope.
      mean: the mean of the places.
      count: how many there are.
      z: quantile of the normal law.
    """
    best = u * mean + log_mass(u)

    # Both ends together, so that the search is compiled once.
    u, mean, count, best = (jnp.stack([x, x]) for x in (u, mean, count, best))
    direction = jnp.stack([-jnp.ones_like(u[0]), jnp.ones_like(u[0])])

    def is_outside(v):
        return 2.0 * count * (v * mean + log_mass(v) - best) > z**2

    reach = (4.0 + z) / jnp.sqrt(variance_of_place(u) * count)

    def look(step, ends):
        """First doubles the reach until it is outside, then halves the bracket."""
        low, high = ends
        is_widening = step < _DOUBLINGS
        tried = jnp.where(is_widening, high, 0.5 * (low + high))
        outside = is_outside(u + direction * tried)
        wider = jnp.where(outside, high, 2.0 * high)
        return (
            jnp.where(is_widening | outside, low, tried),
            jnp.where(is_widening, wider, jnp.where(outside, tried, high)),
        )

    start = jnp.zeros_like(reach), reach
    _, found = jax.lax.fori_loop(0, _DOUBLINGS + _HALVINGS, look, start)
    low, high = u + direction * found
    return low, high


def curvature(places: jax.Array, is_draw: jax.Array, u: jax.Array) -> jax.Array:
    """Whether the logarithm of the density bends: standard normal if it does not.

    This is the score test of c in a density proportional to `exp(-u x - c x^2)`. It is
    positive if the density falls faster farther out.

    Args:
      places: x, shape (..., k).
      is_draw: which of them count.
      u: the most likely slope.
    """
    x = jnp.where(is_draw, places, 0.0)
    count, total, total_square = sums(is_draw.astype(x.dtype), x, x**2)

    def centred(values, total):
        mean = total / jnp.maximum(count, 1.0)
        return jnp.where(is_draw, values - mean[..., None], 0.0)

    one, square = centred(x, total), centred(x**2, total_square)
    product, spread = sums(one * square, one**2)
    slope = product / spread
    (rest,) = sums((square - slope[..., None] * one) ** 2)
    expected = variance_of_place(u) + mean_place(u) ** 2
    return (count * expected - total_square) / jnp.sqrt(rest)
