"""The logarithms of the largest draws over the threshold, and their means."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._validation import is_integer
from heavytail_optax.tail_index._order_statistics import (
    are_few_of_many,
    largest,
    order_statistic,
)
from heavytail_optax.tail_index._padded_draws import (
    is_on_host,
    largest_padded,
    rounded_up,
)
from heavytail_optax.tail_index._sums import sums
from heavytail_optax.tail_index._ties import Ties, ties_of_first, ties_of_largest


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


def few_or_all(samples: jax.Array, k: int | jax.Array) -> tuple[jax.Array, int | None]:
    """The draws that are needed, and how many to search for; None to count instead.

    A search finds a few of the largest quickly. It is for at least k + 1 draws, in steps,
    so that few compiled programs serve all k.

    Args:
      samples: shape (..., n).
      k: what the user passed; checked.
    """
    size = samples.shape[-1]
    if isinstance(k, jax.core.Tracer):
        return samples, None
    if is_on_host(samples):
        most = int(np.max(np.asarray(k), initial=1))
        if most >= size:  # in an array, which is not checked
            return samples, None
        draws = largest_padded(samples, most + 1)
        return draws, draws.shape[-1]
    if not is_integer(k):
        return samples, None
    few = rounded_up(int(k) + 1)
    return samples, few if are_few_of_many(few, size) else None


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
      few: from `few_or_all`.
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
    is_usable, ties = _usable(threshold, ties_of_first(descending, k + 1), k)
    safe = jnp.where(is_usable, threshold, jnp.nan)[..., None]
    return LogExcesses(jnp.log(descending[..., :-1] / safe), threshold, ties)


def log_excesses_of_first(descending: jax.Array, k: jax.Array) -> LogExcesses:
    """The log-excesses of the first k of draws in descending order.

    Args:
      descending: shape (..., m).
      k: int32, of the shape of the batch, below m.
    """
    threshold = jnp.take_along_axis(descending, k[..., None], axis=-1)
    is_usable, ties = _usable(threshold[..., 0], ties_of_first(descending, k + 1), k)
    safe = jnp.where(is_usable[..., None], threshold, jnp.nan)
    rank = jax.lax.broadcasted_iota(k.dtype, descending.shape, descending.ndim - 1)
    is_above = rank < k[..., None]
    ratio = jnp.where(is_above, descending, safe) / safe
    values = jnp.where(is_above, jnp.log(ratio), 0.0)
    return LogExcesses(values, threshold[..., 0], ties)


def hill_gamma(excesses: LogExcesses, k: jax.Array | int) -> jax.Array:
    """The mean of the k log-excesses: Hill's estimate of gamma."""
    return sums(excesses.values)[0] / k


def mean_power(excesses: LogExcesses, gamma: jax.Array, k: jax.Array, rho) -> jax.Array:
    """The mean of `(X / threshold)^(rho / gamma)`: `1 / (1 - rho)` under a power law."""
    is_usable = (gamma > 0.0) & (gamma < jnp.inf)
    safe = jnp.where(is_usable, gamma, 1.0)[..., None]
    return 1.0 + sums(jnp.expm1(rho * excesses.values / safe))[0] / k
