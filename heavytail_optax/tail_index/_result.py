"""What an estimator of the tail index returns, and how an interval is made."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax.tail_index._ties import Ties


class TailIndex(NamedTuple):
    r"""An estimate of the tail index with its error bar.

    `P(X > x)` falls like $x^{-\alpha}$; the density then falls like
    $x^{-(\alpha + 1)}$, and that exponent is the "alpha" of the `powerlaw` package.
    $\gamma = 1/\alpha$ is the extreme value index, which is zero for an exponential
    tail and negative for a bounded law. Every field has the shape of the batch.

    Where several of the largest draws are equal, more than equal the next value, those
    beyond were cut off, as by clipping. Then the standard errors are infinite, and the
    interval goes from zero to infinity. All is NaN where the k + 1 largest are equal.

    Attributes:
      estimate: alpha; infinite where gamma is not positive.
      standard_error: of alpha, if the tail is as the estimator assumes.
      lower: lower end of the interval of alpha; infinite where all of the interval of
        gamma is below zero, which is to say that there is no index.
      upper: upper end; infinite where the interval of gamma reaches zero. An interval
        that allows for bias may leave the estimate out, which is to say that it is biased.
      gamma: 1 / alpha, which may be negative for the estimators that allow it.
      gamma_standard_error: of gamma.
      k: how many of the largest draws were used. dtype=int32.
      threshold: the draw next to them, above which the tail was looked at.
      num_tied: how many of these draws equal the largest, itself included, as in
        `num_tied`; 1 if none does. dtype=int32.
    """

    estimate: jax.Array
    standard_error: jax.Array
    lower: jax.Array
    upper: jax.Array
    gamma: jax.Array
    gamma_standard_error: jax.Array
    k: jax.Array
    threshold: jax.Array
    num_tied: jax.Array


def normal_quantile(confidence, dtype) -> jax.Array:
    """Half the width of a two-sided normal interval, in standard errors."""
    return jax.scipy.special.ndtri(0.5 + 0.5 * jnp.asarray(confidence, dtype))


def inverse_or_infinity(gamma: jax.Array) -> jax.Array:
    """`1 / gamma`, and infinity where gamma is not positive; NaN stays."""
    positive = jnp.where(gamma > 0.0, gamma, 1.0)
    inverse = jnp.where(gamma > 0.0, 1.0 / positive, jnp.inf)
    return jnp.where(jnp.isnan(gamma), gamma, inverse)


def _result(gamma, gamma_error, lower, upper, k, threshold, ties: Ties) -> TailIndex:
    shape = gamma.shape
    alpha = inverse_or_infinity(gamma)
    is_finite = jnp.isfinite(alpha)
    error = jnp.where(is_finite, alpha, 1.0) ** 2 * gamma_error
    error = jnp.where(is_finite, error, alpha)
    return TailIndex(
        estimate=alpha,
        standard_error=jnp.where(ties.is_cap, jnp.inf, error),
        lower=jnp.where(ties.is_cap, 0.0, lower),
        upper=jnp.where(ties.is_cap, jnp.inf, upper),
        gamma=gamma,
        gamma_standard_error=jnp.where(ties.is_cap, jnp.inf, gamma_error),
        k=jnp.broadcast_to(jnp.asarray(k, jnp.int32), shape),
        threshold=jnp.broadcast_to(threshold, shape),
        num_tied=jnp.broadcast_to(ties.count, shape),
    )


def from_gamma(
    gamma: jax.Array,
    gamma_error: jax.Array,
    gamma_interval: tuple[jax.Array, jax.Array],
    k,
    threshold: jax.Array,
    ties: Ties,
) -> TailIndex:
    """The result of an estimator of gamma, which may be negative.

    Args:
      gamma: the estimate.
      gamma_error: its standard error.
      gamma_interval: lower and upper ends of the interval of gamma.
      k: how many of the largest draws were used.
      threshold: the draw next to them.
      ties: of the largest of them all; no cap where gamma is NaN.
    """
    low, high = gamma_interval
    lower, upper = inverse_or_infinity(high), inverse_or_infinity(low)
    return _result(gamma, gamma_error, lower, upper, k, threshold, ties)


def from_mean_of_exponentials(
    gamma: jax.Array,
    equivalent: jax.Array,
    k,
    threshold: jax.Array,
    ties: Ties,
    confidence,
    centre: tuple[jax.Array, jax.Array] | None = None,
) -> TailIndex:
    """The result where gamma is a mean of exponential variables of mean gamma.

    Then `gamma_estimate / gamma` has a gamma law of mean 1, whose quantiles are taken
    from Wilson and Hilferty's cube: within 1e-3 of them from ten variables on.

    Args:
      gamma: the estimate.
      equivalent: how many variables a plain mean of the same variance would have.
      k: how many of the largest draws were used.
      threshold: the draw next to them.
      ties: of the largest of them all; no cap where gamma is NaN.
      confidence: of the interval.
      centre: another gamma and its number of variables, for the interval.

    References:
      Wilson, Hilferty, "The distribution of chi-square", PNAS 17 (1931).
    """
    error = gamma / jnp.sqrt(equivalent)
    middle, count = (gamma, equivalent) if centre is None else centre
    z = normal_quantile(confidence, gamma.dtype)
    cube_root, spread = 1.0 - 1.0 / (9.0 * count), z / (3.0 * jnp.sqrt(count))
    low, high = cube_root - spread, cube_root + spread
    alpha = inverse_or_infinity(middle)
    # Of so few variables that a quantile is zero or below, that end is open.
    lower = alpha * jnp.where(low > 0.0, low, 1.0) ** 3
    upper = alpha * jnp.where(high > 0.0, high, 1.0) ** 3
    lower = jnp.where((low > 0.0) | jnp.isnan(alpha), lower, 0.0)
    upper = jnp.where((high > 0.0) | jnp.isnan(alpha), upper, jnp.inf)
    return _result(gamma, error, lower, upper, k, threshold, ties)
