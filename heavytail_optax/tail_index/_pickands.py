"""Pickands' estimator: three order statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._validation import check_count
from heavytail_optax.tail_index._arguments import check_confidence, check_draws
from heavytail_optax.tail_index._centring import less_order_statistic
from heavytail_optax.tail_index._order_statistics import largest
from heavytail_optax.tail_index._result import (
    TailIndex,
    from_gamma,
    normal_quantile,
)
from heavytail_optax.tail_index._ties import ties_of_largest


def _variance(gamma: jax.Array) -> jax.Array:
    """Asymptotic variance of `sqrt(k / 4)` times the error."""
    log_two = jnp.log(jnp.asarray(2.0, gamma.dtype))
    is_zero = jnp.abs(gamma) < 1e-4
    safe = jnp.where(is_zero, 1.0, gamma)
    ratio = jnp.where(is_zero, 1.0 / log_two, safe / jnp.expm1(safe * log_two))
    return (2.0 * jnp.exp(2.0 * gamma * log_two) + 1.0) * (ratio / (2.0 * log_two)) ** 2


# One program per shape: compiling the operations one by one takes far longer.
@functools.partial(jax.jit, static_argnames="quarter")
def _pickands(samples: jax.Array, quarter: int, confidence) -> TailIndex:
    descending = largest(samples, 4 * quarter)
    first, second, fourth = (
        descending[..., multiple * quarter - 1] for multiple in (1, 2, 4)
    )
    # The order statistics may all be numbers even if a draw beyond them is NaN.
    first = jnp.where(jnp.isnan(descending[..., 0]), jnp.nan, first)
    upper, lower = first - second, second - fourth
    ties = ties_of_largest(descending, 4 * quarter)
    is_valid = (upper > 0.0) & (lower > 0.0) & (ties.count < 2 * quarter)
    ratio = jnp.where(is_valid, upper, 1.0) / jnp.where(is_valid, lower, 1.0)
    gamma = jnp.where(is_valid, jnp.log2(ratio), jnp.nan)
    error = jnp.sqrt(_variance(gamma) / quarter)
    half = normal_quantile(confidence, gamma.dtype) * error
    interval = gamma - half, gamma + half
    # Draws beyond the first of the three may be anything.
    is_cap = ties.is_cap & is_valid & (ties.count >= quarter)
    ties = ties._replace(is_cap=is_cap)
    return from_gamma(gamma, error, interval, gamma, 4 * quarter, fourth, ties)


@on_auto_axes
def pickands(
    samples: npt.ArrayLike, k: int, *, axis: int | None = -1, confidence: float = 0.95
) -> TailIndex:
    r"""Pickands' estimator: invariant under shift and scale, and very noisy.

    .. math::
      \hat\gamma = \frac1{\log 2}
        \log \frac{X_{(m)} - X_{(2m)}}{X_{(2m)} - X_{(4m)}}, \qquad
      m = \lfloor k / 4 \rfloor.

    If the draws may be negative or have an unknown location, use this one: Hill's and
    the moment estimator do not apply. At the same k, its variance is about twelve times
    that of the moment estimator and, for an index of 1.5, 36 times that of Hill's.
    Clipped draws matter only if a quarter of the k were clipped.

    Args:
      samples: floating array; of any sign. An infinite draw counts as the largest, and
        a NaN gives NaN. NumPy float64 is centred in float64 before it becomes float32.
      k: how many of the largest draws to look at, from 4 to n. Rounded down to a
        multiple of four. The literature calls a quarter of it k.
      axis: the axis of the draws; None takes all axes together.
      confidence: confidence level of the interval, between 0 and 1.

    Returns:
      A `TailIndex`; each field has the shape of the samples without the axis. NaN if
      two of the order statistics are equal. The interval is from zero to infinity only
      if at least a quarter of the k draws equal the largest, and not the next value.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if k, the axis or the confidence is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> draws = jnp.asarray([8.0, 4.0, 3.0, 2.0])
      >>> print(hto.tail_index.pickands(draws, 4).gamma)  # log2((8 - 4) / (4 - 2))
      1.0

    References:
      Pickands, "Statistical inference using extreme order statistics", Annals of
      Statistics 3 (1975); Dekkers, de Haan, "On the estimation of the extreme-value
      index and large quantile estimation", Annals of Statistics 17 (1989), theorem 2.3,
      for the variance.
    """
    draws = check_draws("pickands", samples, axis, least=4)
    k = check_count(
        "pickands", "k", k, 4, draws.shape[-1], most_is="the number of draws"
    )
    check_confidence("pickands", confidence)
    quarter = k // 4
    samples, centre = less_order_statistic(draws, 4 * quarter - 1)
    index = _pickands(samples, quarter, confidence)
    return index._replace(threshold=index.threshold + centre)
