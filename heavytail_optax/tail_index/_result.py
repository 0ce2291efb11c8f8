"""The result of a tail index estimator, and how its interval is made."""

import statistics
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from heavytail_optax._result_text import is_one_number, short_repr
from heavytail_optax._typing import Scalar
from heavytail_optax.tail_index._ties import Ties


class TailIndex(NamedTuple):
    r"""An estimate of the tail index with its error bar.

    `P(X > x)` falls like :math:`x^{-\alpha}`; the density then falls like
    :math:`x^{-(\alpha + 1)}`, and that exponent is the "alpha" of the `powerlaw`
    package. :math:`\gamma = 1/\alpha` is the extreme value index, which is zero for an
    exponential tail and negative for a bounded law. Every field has the shape of the
    batch.

    If several of the largest draws are equal, and more than equal the next value,
    larger draws were cut off, for example by clipping. Then the standard errors are
    infinite, and the interval is from zero to infinity. If the k + 1 largest draws are
    equal, all fields are NaN.

    Some intervals allow for the bias of the estimate. They lie around
    `corrected_estimate`, and may leave the estimate out. So report the corrected estimate
    with the interval. `str` of a single result says so: "1.56 (1.27 to 2.01): report this,
    corrected for bias; uncorrected 1.48".

    Attributes:
      estimate: alpha; infinite if gamma is not positive.
      standard_error: that of alpha, if the tail is as the estimator assumes.
      corrected_estimate: alpha less the bias that the interval allows for; the estimate
        itself if it allows for none. Infinite if the corrected gamma is not positive.
      lower: lower end of the interval of alpha. It is infinite if the whole interval of
        gamma is below zero, which means that there is no index.
      upper: upper end; infinite if the interval of gamma reaches zero.
      is_biased: whether the interval leaves the estimate out, which is then more biased
        than chance explains. dtype=bool.
      gamma: 1 / alpha; some estimators allow it to be negative.
      gamma_standard_error: that of gamma.
      k: how many of the largest draws were used. dtype=int32.
      threshold: the next largest draw, above which the tail was examined.
      num_tied: how many of these draws equal the largest, itself included, as in
        `num_tied`; 1 if none does. dtype=int32.
    """

    estimate: jax.Array
    standard_error: jax.Array
    corrected_estimate: jax.Array
    lower: jax.Array
    upper: jax.Array
    is_biased: jax.Array
    gamma: jax.Array
    gamma_standard_error: jax.Array
    k: jax.Array
    threshold: jax.Array
    num_tied: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.estimate):
            return repr(self)
        if jnp.isnan(self.estimate):
            return "no estimate: the largest draws are NaN, equal or not positive"
        estimate, corrected, lower, upper = (
            float(x)
            for x in (self.estimate, self.corrected_estimate, self.lower, self.upper)
        )
        text = index_with_interval(corrected, lower, upper)
        if corrected == estimate:
            return text
        outside = ", outside of the interval" if self.is_biased else ""
        this = ": report this, corrected for bias" if lower < float("inf") else ""
        return f"{text}{this}; uncorrected {estimate:.2f}{outside}"


def index_with_interval(corrected: float, lower: float, upper: float) -> str:
    """The estimate that an interval lies around, with the interval."""
    if lower == float("inf"):
        return "no index fits"
    return f"{corrected:.2f} ({lower:.2f} to {upper:.2f})"


def normal_quantile(confidence: Scalar, dtype: DTypeLike) -> jax.Array:
    """Half the width of a two-sided normal interval, in standard errors."""
    if not isinstance(confidence, jax.Array):  # without a program
        quantile = statistics.NormalDist().inv_cdf(0.5 + 0.5 * float(confidence))
        return jnp.asarray(np.asarray(quantile, dtype))
    return jax.scipy.special.ndtri(0.5 + 0.5 * jnp.asarray(confidence, dtype))


def inverse_or_infinity(gamma: jax.Array) -> jax.Array:
    """`1 / gamma`, or infinity if gamma is not positive; NaN stays NaN."""
    positive = jnp.where(gamma > 0.0, gamma, 1.0)
    inverse = jnp.where(gamma > 0.0, 1.0 / positive, jnp.inf)
    return jnp.where(jnp.isnan(gamma), gamma, inverse)


def _result(
    gamma, gamma_error, corrected, lower, upper, k, threshold, ties: Ties
) -> TailIndex:
    shape = gamma.shape
    alpha = inverse_or_infinity(gamma)
    is_finite = jnp.isfinite(alpha)
    error = jnp.where(is_finite, alpha, 1.0) ** 2 * gamma_error
    error = jnp.where(is_finite, error, alpha)
    lower = jnp.where(ties.is_cap, 0.0, lower)
    upper = jnp.where(ties.is_cap, jnp.inf, upper)
    return TailIndex(
        estimate=alpha,
        standard_error=jnp.where(ties.is_cap, jnp.inf, error),
        corrected_estimate=corrected,
        lower=lower,
        upper=upper,
        is_biased=(alpha < lower) | (alpha > upper),
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
    corrected_gamma: jax.Array,
    k,
    threshold: jax.Array,
    ties: Ties,
) -> TailIndex:
    """The result of an estimator of gamma, which may be negative.

    Args:
      gamma: the estimate.
      gamma_error: its standard error.
      gamma_interval: lower and upper ends of the interval of gamma.
      corrected_gamma: the gamma that it lies around.
      k: how many of the largest draws were used.
      threshold: the next largest draw.
      ties: ties of the largest draw; no cap if gamma is NaN.
    """
    low, high = gamma_interval
    corrected, lower, upper = map(inverse_or_infinity, (corrected_gamma, high, low))
    return _result(gamma, gamma_error, corrected, lower, upper, k, threshold, ties)


def from_mean_of_exponentials(
    gamma: jax.Array,
    equivalent: jax.Array,
    k,
    threshold: jax.Array,
    ties: Ties,
    z: jax.Array,
    centre: tuple[jax.Array, jax.Array] | None = None,
) -> TailIndex:
    """The result if the estimate is a mean of exponential variables with mean gamma.

    Then `gamma_estimate / gamma` has a gamma law with mean 1. Its quantiles come from
    Wilson and Hilferty's cube, which is accurate to 1e-3 from ten variables on.

    Args:
      gamma: the estimate.
      equivalent: number of variables of a plain mean with the same variance.
      k: how many of the largest draws were used.
      threshold: the next largest draw.
      ties: ties of the largest draw; no cap if gamma is NaN.
      z: from `normal_quantile`.
      centre: another gamma and its number of variables, for the interval.

    References:
      Wilson, Hilferty, "The distribution of chi-square", PNAS 17 (1931).
    """
    error = gamma / jnp.sqrt(equivalent)
    middle, count = (gamma, equivalent) if centre is None else centre
    cube_root, spread = 1.0 - 1.0 / (9.0 * count), z / (3.0 * jnp.sqrt(count))
    low, high = cube_root - spread, cube_root + spread
    alpha = inverse_or_infinity(middle)
    # If a quantile is zero or below, because there are few variables, that end is open.
    lower = alpha * jnp.where(low > 0.0, low, 1.0) ** 3
    upper = alpha * jnp.where(high > 0.0, high, 1.0) ** 3
    lower = jnp.where((low > 0.0) | jnp.isnan(alpha), lower, 0.0)
    upper = jnp.where((high > 0.0) | jnp.isnan(alpha), upper, jnp.inf)
    return _result(gamma, error, alpha, lower, upper, k, threshold, ties)
