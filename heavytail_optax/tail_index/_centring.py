"""What becomes of float64 NumPy draws: centred in float64, and float32 from there on.

JAX has no float64 unless `jax_enable_x64` is set. A draw near 1e7 is known to one unit in
float32, so that estimators which a shift of the draws should not touch would see little
else than rounding. They shift first.
"""

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._dtypes import computation_dtype

Draws = jax.Array | np.ndarray


def is_cut(draws: Draws) -> bool:
    """Whether JAX would cut digits off these draws."""
    widest = jax.dtypes.canonicalize_dtype(np.float64)
    return isinstance(draws, np.ndarray) and draws.dtype.itemsize > widest.itemsize


def as_samples(draws: Draws) -> jax.Array:
    """The draws as a JAX array, float32 at least."""
    if is_cut(draws):  # JAX takes no long double
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
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less itself
        shifted = draws - centre[..., None]
    return as_samples(shifted), as_samples(centre)


def less_median(draws: Draws) -> tuple[jax.Array, jax.Array | float]:
    """The samples less their median, and the median; as they are if nothing is cut."""
    if not is_cut(draws):
        return as_samples(draws), 0.0
    return _less(draws, np.median(draws, axis=-1))


def less_order_statistic(
    draws: Draws, rank: int
) -> tuple[jax.Array, jax.Array | float]:
    """The samples less their draw of a rank, and that draw, likewise.

    Args:
      draws: along the last axis.
      rank: 0 for the largest.
    """
    if not is_cut(draws):
        return as_samples(draws), 0.0
    place = draws.shape[-1] - 1 - rank
    return _less(draws, np.partition(draws, place, axis=-1)[..., place])
