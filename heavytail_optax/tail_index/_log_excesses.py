"""The logarithms of the largest draws over the draw next to them, and their means."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._validation import is_integer
from heavytail_optax.tail_index._order_statistics import (
    are_few_of_many,
    largest,
    order_statistic,
)


class LogExcesses(NamedTuple):
    """Log-excesses over a threshold.

    Attributes:
      values: `log(X / threshold)` of the k largest draws, in any order, and zeros. NaN
        where the threshold is not positive, or a draw is NaN. shape=(..., m).
      threshold: the draw next to the k largest. shape=(...).
    """

    values: jax.Array
    threshold: jax.Array


def static_count(k: Any, size: int) -> int | None:
    """k where the k largest draws are sought as such, else None.

    Then what is compiled depends on k, and the rest of the draws is looked at once.
    """
    if is_integer(k) and are_few_of_many(int(k) + 1, size):
        return int(k)
    return None


def log_excesses(samples: jax.Array, k: jax.Array, few: int | None) -> LogExcesses:
    """Those of the k largest draws along the last axis.

    Args:
      samples: shape (..., n).
      k: int32, shape () or that of the batch; out of range gives NaN.
      few: from `static_count`.
    """
    if few is not None:
        return log_excesses_over_last(largest(samples, few + 1))
    threshold = order_statistic(samples, k)
    is_valid = (threshold > 0.0) & (k >= 1) & (k < samples.shape[-1])
    is_valid &= ~jnp.any(jnp.isnan(samples), axis=-1)
    safe = jnp.where(is_valid, threshold, 1.0)[..., None]
    is_above = samples > safe
    values = jnp.where(
        is_above, jnp.log(jnp.where(is_above, samples, safe) / safe), 0.0
    )
    return LogExcesses(jnp.where(is_valid[..., None], values, jnp.nan), threshold)


def log_excesses_over_last(descending: jax.Array) -> LogExcesses:
    """Those of draws in descending order over the last of them."""
    threshold = descending[..., -1]
    safe = jnp.where(threshold > 0.0, threshold, jnp.nan)[..., None]
    return LogExcesses(jnp.log(descending[..., :-1] / safe), threshold)


def log_excesses_of_first(descending: jax.Array, k: jax.Array) -> LogExcesses:
    """Those of the first k of draws in descending order.

    Args:
      descending: shape (..., m).
      k: int32, of the shape of the batch, below m.
    """
    threshold = jnp.take_along_axis(descending, k[..., None], axis=-1)
    safe = jnp.where(threshold > 0.0, threshold, jnp.nan)
    rank = jax.lax.broadcasted_iota(k.dtype, descending.shape, descending.ndim - 1)
    is_above = rank < k[..., None]
    ratio = jnp.where(is_above, descending, safe) / safe
    return LogExcesses(jnp.where(is_above, jnp.log(ratio), 0.0), threshold[..., 0])


def hill_gamma(excesses: LogExcesses, k: jax.Array) -> jax.Array:
    """The mean of the k log-excesses: Hill's estimate of gamma."""
    return jnp.sum(excesses.values, axis=-1) / k


def mean_power(excesses: LogExcesses, gamma: jax.Array, k: jax.Array, rho) -> jax.Array:
    """The mean of `(X / threshold)^(rho / gamma)`: `1 / (1 - rho)` under a power law."""
    safe = jnp.where(gamma > 0.0, gamma, 1.0)[..., None]
    return 1.0 + jnp.sum(jnp.expm1(rho * excesses.values / safe), axis=-1) / k
