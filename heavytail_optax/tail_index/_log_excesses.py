"""The logarithms of the largest draws over the threshold, and their means."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._validation import is_integer
from heavytail_optax.tail_index._order_statistics import (
    are_few_of_many,
    largest,
    order_statistic,
)
from heavytail_optax.tail_index._ties import Ties, ties_of_largest


class LogExcesses(NamedTuple):
    """Log-excesses over a threshold.

    Attributes:
      values: `log(X / threshold)` of the k largest draws, in any order, and zeros. NaN
        if the threshold is not positive, if nearly all of the k largest equal it, or if
        a draw is NaN. shape=(..., m).
      threshold: the next draw after the k largest. shape=(...).
      ties: ties of the largest of these k + 1 draws; no cap if the values are NaN.
        shape=(...).
    """

    values: jax.Array
    threshold: jax.Array
    ties: Ties


def search_count(k: object, size: int) -> int | None:
    """How many largest draws to search for, at least k + 1; None to count instead.

    If there are many draws, a search finds a few of the largest quickly. k is rounded
    up to two binary digits, so that few compiled programs serve all k.
    """
    if not is_integer(k) or k < 1:
        return None
    step = 2 ** max(0, int(k).bit_length() - 2)
    count = step * (int(k) // step + 1)
    return count if are_few_of_many(count, size) else None


def _usable(
    threshold: jax.Array, ties: Ties, k: jax.Array | int
) -> tuple[jax.Array, Ties]:
    """Whether the threshold is usable, and the ties, with no cap if it is not."""
    is_usable = (threshold > 0.0) & (ties.count <= k)
    return is_usable, ties._replace(is_cap=ties.is_cap & is_usable)


def log_excesses(samples: jax.Array, k: jax.Array, few: int | None) -> LogExcesses:
    """The log-excesses of the k largest draws along the last axis.

    Args:
      samples: shape (..., n).
      k: int32, shape () or that of the batch; out of range gives NaN.
      few: from `search_count`.
    """
    if few is not None:
        k = jnp.broadcast_to(k, samples.shape[:-1])
        return log_excesses_of_first(largest(samples, few), k)
    threshold = order_statistic(samples, k)
    is_valid = (k >= 1) & (k < samples.shape[-1])
    is_valid &= ~jnp.any(jnp.isnan(samples), axis=-1)
    is_usable, ties = _usable(threshold, ties_of_largest(samples, k + 1), k)
    is_valid &= is_usable
    safe = jnp.where(is_valid, threshold, 1.0)[..., None]
    is_above = samples > safe
    values = jnp.where(
        is_above, jnp.log(jnp.where(is_above, samples, safe) / safe), 0.0
    )
    values = jnp.where(is_valid[..., None], values, jnp.nan)
    return LogExcesses(values, threshold, ties)


def log_excesses_over_last(descending: jax.Array) -> LogExcesses:
    """The log-excesses of draws in descending order over the last of them."""
    threshold, k = descending[..., -1], descending.shape[-1] - 1
    is_usable, ties = _usable(threshold, ties_of_largest(descending, k + 1), k)
    safe = jnp.where(is_usable, threshold, jnp.nan)[..., None]
    return LogExcesses(jnp.log(descending[..., :-1] / safe), threshold, ties)


def log_excesses_of_first(descending: jax.Array, k: jax.Array) -> LogExcesses:
    """The log-excesses of the first k of draws in descending order.

    Args:
      descending: shape (..., m).
      k: int32, of the shape of the batch, below m.
    """
    threshold = jnp.take_along_axis(descending, k[..., None], axis=-1)
    is_usable, ties = _usable(threshold[..., 0], ties_of_largest(descending, k + 1), k)
    safe = jnp.where(is_usable[..., None], threshold, jnp.nan)
    rank = jax.lax.broadcasted_iota(k.dtype, descending.shape, descending.ndim - 1)
    is_above = rank < k[..., None]
    ratio = jnp.where(is_above, descending, safe) / safe
    values = jnp.where(is_above, jnp.log(ratio), 0.0)
    return LogExcesses(values, threshold[..., 0], ties)


def hill_gamma(excesses: LogExcesses, k: jax.Array | int) -> jax.Array:
    """The mean of the k log-excesses: Hill's estimate of gamma."""
    return jnp.sum(excesses.values, axis=-1) / k


def mean_power(excesses: LogExcesses, gamma: jax.Array, k: jax.Array, rho) -> jax.Array:
    """The mean of `(X / threshold)^(rho / gamma)`: `1 / (1 - rho)` under a power law."""
    is_usable = (gamma > 0.0) & (gamma < jnp.inf)
    safe = jnp.where(is_usable, gamma, 1.0)[..., None]
    return 1.0 + jnp.sum(jnp.expm1(rho * excesses.values / safe), axis=-1) / k
