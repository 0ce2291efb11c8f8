"""The extended Pareto law: Hill's estimate without its second-order bias."""

import functools

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._validation import check_scalar
from heavytail_optax.tail_index._arguments import (
    check_confidence,
    check_samples,
    check_traced_integer,
)
from heavytail_optax.tail_index._log_excesses import (
    LogExcesses,
    few_or_all,
    hill_gamma,
    log_excesses,
    mean_power,
)
from heavytail_optax.tail_index._quick_programs import quick_jit
from heavytail_optax.tail_index._result import (
    TailIndex,
    from_mean_of_exponentials,
    normal_quantile,
)

_NAME = "extended_pareto"


def corrected_gamma(
    gamma: jax.Array, excesses: LogExcesses, k: jax.Array | int, rho=-1.0
) -> jax.Array:
    """Hill's estimate of gamma minus its bias; infinite if the estimate is.

    Under an exact power law its mean is gamma, up to order 1 / k.
    """
    factor = (1.0 - 2.0 * rho) * (1.0 - rho) ** 2 / -(rho**3)
    # The mean power is below its limit by this on average, because gamma is estimated.
    of_few = (1.0 - 2.0 * rho) / (-rho * (1.0 - rho) * k)
    apart = mean_power(excesses, gamma, k, rho) - 1.0 / (1.0 - rho)
    return jnp.where(gamma < jnp.inf, gamma * (1.0 + factor * apart + of_few), gamma)


def equivalent_count(k: jax.Array, rho=-1.0) -> jax.Array:
    """The number of draws that gives Hill's estimate the corrected one's variance."""
    return k * (rho / (1.0 - rho)) ** 2


# Compiled once for all calls; an eager loop would be compiled again in each call.
@functools.partial(quick_jit, static_argnames=("few",))
def _extended_pareto(
    samples: jax.Array, k: jax.Array, z: jax.Array, few: int | None, rho
) -> TailIndex:
    excesses = log_excesses(samples, k, few)
    count = jnp.asarray(k, samples.dtype)
    gamma = corrected_gamma(hill_gamma(excesses, count), excesses, count, rho)
    equivalent = equivalent_count(count, rho)
    return from_mean_of_exponentials(
        gamma, equivalent, k, excesses.threshold, excesses.ties, z
    )


@on_auto_axes
def extended_pareto(
    samples: npt.ArrayLike,
    k: int | jax.Array,
    *,
    rho: float = -1.0,
    axis: int | None = -1,
    confidence: float = 0.95,
) -> TailIndex:
    r"""Fits a power law with its first correction: Hill's estimate without its bias.

    Most laws with a power law tail reach it slowly, like

    .. math:: P(X > x) = C x^{-\alpha} \bigl(1 + D x^{\rho \alpha} + \dots\bigr),
      \qquad \rho < 0,

    and the second term biases Hill's estimate. This term is estimated from the misfit
    between the fitted power law and the draws above the threshold t. With the mean E of
    their powers,

    .. math::
      \hat\gamma = \hat\gamma_H \Bigl(
        1 + \frac{(1 - 2\rho)(1 - \rho)^2}{-\rho^3}
        \Bigl(E - \frac{1}{1 - \rho}\Bigr)
        + \frac{1 - 2\rho}{-\rho (1 - \rho) k}
      \Bigr),
      \qquad E = \frac1k \sum_{i=1}^{k}
        \Bigl(\frac{X_{(i)}}{t}\Bigr)^{\rho / \hat\gamma_H},

    or `gamma_H (1 + 12 (E - 1/2) + 3 / (2k))` for rho = -1. The last term corrects the
    mean for few draws. At the same k, the standard error is `(1 - rho) / -rho` times
    Hill's: twice as large for rho = -1. But k may be far larger before bias shows. rho
    is -1 for stable laws, `-2 / alpha` for Student's, and minus infinity for a Pareto
    law. It need not be exact: with -1, three quarters of the bias are gone even if rho
    is -2/3.

    Args:
      samples: floating array. Only the k + 1 largest along the axis matter. They must
        be positive, or the result is NaN.
      k: how many of the largest draws to use, from 1 to n - 1, as for `hill`. The
        interval agrees with the theory from ten on.
      rho: the second-order parameter, from -100 to -0.01.
      axis: the axis of the draws; None takes all axes together.
      confidence: confidence level of the interval, between 0 and 1.

    Returns:
      A `TailIndex`; each field has the shape of the samples without the axis. gamma may
      be negative, for a tail that is lighter than any power law; then the interval
      begins at infinity. One infinite draw makes the index zero. If the largest draws
      were cut off, the interval is from zero to infinity.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if k, rho, the axis or the confidence is out of range, or there are
        fewer than two draws.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.alpha_stable(1.5).sample(jax.random.key(0), (1_000_000,))
      >>> for estimator in (hto.tail_index.hill, hto.tail_index.extended_pareto):
      ...     print(f"{estimator(abs(draws), 50_000).estimate:.2f}")
      1.64
      1.52

    References:
      Beirlant, Joossens, Segers, "Second-order refined peaks-over-threshold modelling
      for heavy-tailed distributions", Journal of Statistical Planning and Inference 139
      (2009), section 3.
    """
    samples = check_samples(_NAME, samples, axis)
    size = samples.shape[-1]
    of_user, k = k, check_traced_integer(_NAME, "k", k, size, samples.shape[:-1])
    check_scalar(
        _NAME, "rho", rho, "a number from -100 to -0.01", lambda x: -100 <= x <= -0.01
    )
    check_confidence(_NAME, confidence)
    rho = jnp.asarray(rho, samples.dtype)
    samples, few = few_or_all(samples, of_user)
    z = normal_quantile(confidence, samples.dtype)
    return _extended_pareto(samples, k, z, few, rho)
