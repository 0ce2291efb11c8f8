"""Centres float64 NumPy draws in float64 before they become float32.

JAX has no float64 unless `jax_enable_x64` is set. In float32, a draw near 1e7 is
rounded to one unit. So an estimator that is invariant under shifts would see little but
rounding errors. Such estimators shift the draws first.
"""

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._dtypes import computation_dtype

Draws = jax.Array | np.ndarray


def is_cut(draws: Draws) -> bool:
    """Whether JAX would round these draws to fewer digits."""
    widest = jax.dtypes.canonicalize_dtype(np.float64)
    return isinstance(draws, np.ndarray) and draws.dtype.itemsize > widest.itemsize


def as_samples(draws: Draws) -> jax.Array:
    """The draws as a JAX array, at least float32."""
    if is_cut(draws):  # JAX accepts no long double
        with np.errstate(over="ignore"):
            draws = draws.astype(jax.dtypes.canonicalize_dtype(np.float64))
    samples = jnp.asarray(draws)
    return samples.astype(computation_dtype(samples.dtype))


def largest_in_full(draws: np.ndarray, count: int) -> np.ndarray:
    """The `count` largest draws in descending order, in their own dtype."""
    first = draws.shape[-1] - count
    top = np.partition(draws, first, axis=-1)[..., first:]
    return np.flip(np.sort(top, axis=-1), axis=-1)


def _less(draws: np.ndarray, centre: np.ndarray) -> tuple[jax.Array, jax.Array]:
    with np.errstate(invalid="ignore", over="ignore"):  # infinity minus infinity
        shifted = draws - centre[..., None]
    return as_samples(shifted), as_samples(centre)


def less_median(draws: Draws) -> tuple[jax.Array, jax.Array | float]:
    """The samples minus their median, and the median; unchanged if JAX cuts nothing."""
    if not is_cut(draws):
        return as_samples(draws), 0.0
    return _less(draws, np.median(draws, axis=-1))


def less_order_statistic(
    draws: Draws, rank: int
) -> tuple[jax.Array, jax.Array | float]:
    """The samples minus the draw of a given rank, and that draw, as in `less_median`.

    Args:
      draws: along the last axis.
      rank: 0 for the largest.
    """
    if not is_cut(draws):
        return as_samples(draws), 0.0
    place = draws.shape[-1] - 1 - rank
    return _less(draws, np.partition(draws, place, axis=-1)[..., place])
