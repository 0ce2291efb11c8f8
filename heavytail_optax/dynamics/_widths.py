"""The width of a field in R^d: the distance from the minimum to the outside."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

_NUM_DIRECTIONS = 256
_NUM_STATIONS = 64
_NUM_ROUNDS = 6
_NUM_BISECTIONS = 20


def _ray_lengths(
    field_of: Callable[[jax.Array], jax.Array],
    minimum: jax.Array,
    field: int,
    directions: np.ndarray,
    longest: float,
) -> np.ndarray:
    """Distance to the first point outside the field along unit vectors, or `longest`."""

    def length(direction: jax.Array) -> jax.Array:
        radii = jnp.linspace(0.0, longest, _NUM_STATIONS + 1)[1:]
        points = minimum[None] + radii[:, None] * direction[None]
        is_outside = field_of(points) != field
        first = jnp.where(is_outside.any(), jnp.argmax(is_outside), _NUM_STATIONS)
        step = longest / _NUM_STATIONS

        def halve(_: int, ends: tuple[jax.Array, jax.Array]):
            low, high = ends
            middle = 0.5 * (low + high)
            outside = field_of(minimum + middle * direction) != field
            return jnp.where(outside, low, middle), jnp.where(outside, middle, high)

        _, high = jax.lax.fori_loop(
            0, _NUM_BISECTIONS, halve, (first * step, (first + 1) * step)
        )
        return jnp.where(is_outside.any(), high, longest)

    lengths = jax.jit(lambda rays: jax.lax.map(length, rays, batch_size=32))
    return np.asarray(lengths(jnp.asarray(directions)))


def field_widths(
    field_of: Callable[[jax.Array], jax.Array], minima: np.ndarray
) -> np.ndarray:
    """Upper bound on the distance from each minimum to the outside. shape=(K,).

    It tries random directions first, then smaller and smaller changes of the best one.
    """
    rng = np.random.default_rng(0)
    spread = np.linalg.norm(minima[:, None] - minima[None], axis=-1)
    widths = []
    for field in range(len(minima)):
        others = np.delete(np.arange(len(minima)), field)
        # The straight line to another minimum leaves the field.
        longest = float(spread[field, others].min(initial=np.inf))
        if not np.isfinite(longest):
            widths.append(np.inf)
            continue
        rays = rng.normal(size=(_NUM_DIRECTIONS, minima.shape[1]))
        rays[: len(others)] = minima[others] - minima[field]
        for scale in 2.0 ** -np.arange(1.0, _NUM_ROUNDS + 1):
            rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
            lengths = _ray_lengths(
                field_of, jnp.asarray(minima[field]), field, rays, longest
            )
            best = rays[lengths.argmin()]
            rays = best + scale * rng.normal(size=rays.shape) / np.sqrt(rays.shape[1])
            rays[0] = best
        widths.append(float(lengths.min()))
    return np.asarray(widths)
