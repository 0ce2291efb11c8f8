"""Moments of the squared norms of noise and updates, for the gradient noise scale."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax.tail_index._noise_size import norms

_MOST = 1e9  # of a norm in units of the first, so that fourth powers stay finite


class Squares(NamedTuple):
    """Moments of `|noise|^2` and `|update|^2`, in units of the square of `unit`."""

    count: jax.Array
    unit: jax.Array
    noise: jax.Array  # the means
    update: jax.Array
    noise_noise: jax.Array  # sums of products around the means
    noise_update: jax.Array
    update_update: jax.Array


def no_squares(rows: int) -> jax.Array:
    """Of no steps, shape (rows, 7)."""
    return jnp.zeros((rows, len(Squares._fields)), jnp.float32)


def unpacked(squares: jax.Array) -> Squares:
    """The columns."""
    return Squares(*jnp.moveaxis(squares, -1, 0))


@on_auto_axes
def add_squares(
    squares: jax.Array,
    of_noise: jax.Array,
    updates: Sequence[jax.Array],
    is_used: jax.Array,
) -> jax.Array:
    """The moments with those of one more step, by Welford's update.

    Several noise vectors are those of micro-batches around their mean: the noise of the
    mean is that of each over their number less one.

    Args:
      squares: shape (rows, 7).
      of_noise: norms of the noise vectors. shape=(rows, vectors), dtype=float32.
      updates: real floating leaves, one for each row but the first.
      is_used: whether the noise of this step counts. shape=(rows,), dtype=bool.
    """
    if not updates:
        return squares
    of_update = norms([x[None] for x in updates])[:, 0]
    num = of_noise.shape[1]
    finite = [jnp.all(jnp.isfinite(x)) for x in updates]
    finite = jnp.stack([jnp.all(jnp.stack(finite)), *finite])
    state = unpacked(squares)
    most = jnp.maximum(jnp.max(of_noise, axis=1), of_update)
    unit = jnp.where(state.unit > 0.0, state.unit, most)
    is_used &= finite & (unit > 0.0)
    safe = jnp.where(is_used, unit, 1.0)
    x, y = (
        jnp.minimum(v / safe[:, None], _MOST) for v in (of_noise, of_update[:, None])
    )
    x = jnp.sum(x**2, axis=1) / (num * max(num - 1, 1))
    y = y[:, 0] ** 2
    count = state.count + 1.0
    off_x, off_y = x - state.noise, y - state.update
    mean_x, mean_y = state.noise + off_x / count, state.update + off_y / count
    new = Squares(
        count=count,
        unit=unit,
        noise=mean_x,
        update=mean_y,
        noise_noise=state.noise_noise + off_x * (x - mean_x),
        noise_update=state.noise_update + off_x * (y - mean_y),
        update_update=state.update_update + off_y * (y - mean_y),
    )
    return jnp.where(is_used[:, None], jnp.stack(new, axis=-1), squares)
