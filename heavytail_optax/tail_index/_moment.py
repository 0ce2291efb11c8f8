"""The moment estimator of Dekkers, Einmahl and de Haan."""

import functools

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax.tail_index._arguments import (
    check_confidence,
    check_fewer_than,
    check_samples,
)
from heavytail_optax.tail_index._log_excesses import log_excesses_over_last
from heavytail_optax.tail_index._order_statistics import largest
from heavytail_optax.tail_index._result import (
    TailIndex,
    from_gamma,
    normal_quantile,
)

_BIAS = 3.0


def _variance(gamma: jax.Array) -> jax.Array:
    """Asymptotic variance of `sqrt(k)` times the error."""
    g = jnp.minimum(gamma, 0.0)
    bracket = (
        4.0
        - 8.0 * (1.0 - 2.0 * g) / (1.0 - 3.0 * g)
        + (5.0 - 11.0 * g)
        * (1.0 - 2.0 * g)
        / ((1.0 - 3.0 * g) * (1.0 - 4.0 * g))
    )  # fmt: skip
    below = (1.0 - g) ** 2 * (1.0 - 2.0 * g) * bracket
    return jnp.where(gamma >= 0.0, 1.0 + gamma**2, below)


# One program per shape: compiling the operations one by one takes far longer.
@functools.partial(jax.jit, static_argnames="k")
def _moment(samples: jax.Array, k: int, confidence) -> TailIndex:
    descending = largest(samples, k + 1)
    logs, threshold, ties = log_excesses_over_last(descending)
    first, second = jnp.mean(logs, axis=-1), jnp.mean(logs**2, axis=-1)
    gamma = first + 1.0 - 0.5 / (1.0 - first**2 / second)
    error = jnp.sqrt(_variance(gamma) / k)
    half = normal_quantile(confidence, gamma.dtype)
    # With a = M_1 / gamma - 1 and b = M_2 / (2 gamma^2) - 1 the mean of the estimate is
    # gamma minus E[(a - b)^2 + (2a - b)^2], which is 3 / k for k exponentials.
    centre = gamma + _BIAS / k * jnp.clip(1.0 + 2.0 * gamma, 0.0, 1.0)
    # For positive gamma, asinh(gamma) has the same variance for every gamma.
    place, step = jnp.arcsinh(centre), half / jnp.sqrt(1.0 * k)
    is_heavy = centre >= 0.0
    low = jnp.where(is_heavy, jnp.sinh(place - step), centre - half * error)
    high = jnp.where(is_heavy, jnp.sinh(place + step), centre + half * error)
    return from_gamma(gamma, error, (low, high), centre, k, threshold, ties)


@on_auto_axes
def moment_estimator(
    samples: npt.ArrayLike, k: int, *, axis: int | None = -1, confidence: float = 0.95
) -> TailIndex:
    r"""The moment estimator: Hill's, extended so that gamma may be zero or negative.

    .. math::
      \hat\gamma = M_1 + 1 - \frac12 \Bigl(1 - \frac{M_1^2}{M_2}\Bigr)^{-1},
      \qquad M_r = \frac1k \sum_{i=1}^{k}
        \Bigl(\log \frac{X_{(i)}}{X_{(k+1)}}\Bigr)^r.

    For a light tail, gamma is near zero or below, and alpha is infinite. So, unlike
    Hill's estimator, it can say "not heavy-tailed". Its asymptotic error bar is wider
    than Hill's by the factor `sqrt(1 + alpha^2)`. If gamma is not negative, the
    estimate is too low by 3 / k, and the interval is shifted by that, as
    `corrected_estimate` is; the shift shrinks down to gamma = -1/2. The interval does not allow for the bias from a threshold that
    is too low. For an exponential tail, a twentieth of the draws is too many.

    Args:
      samples: floating array; the k + 1 largest along the axis must be positive and
        finite, or the result is NaN.
      k: how many of the largest draws to use, from 2 to n - 1.
      axis: the axis of the draws; None takes all axes together.
      confidence: confidence level of the interval, between 0 and 1.

    Returns:
      A `TailIndex`; each field has the shape of the samples without the axis. If the
      largest draws were cut off, its interval is from zero to infinity.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if k, the axis or the confidence is out of range.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = abs(hto.tails.gaussian().sample(jax.random.key(0), (10_000,)))
      >>> bool(hto.tail_index.moment_estimator(draws, 500).upper == float("inf"))
      True

    References:
      Dekkers, Einmahl, de Haan, "A moment estimator for the index of an extreme-value
      distribution", Annals of Statistics 17 (1989), theorem 3.1 and corollary 3.2.
    """
    samples = check_samples("moment_estimator", samples, axis, least=3)
    k = check_fewer_than("moment_estimator", "k", k, 2, samples.shape[-1])
    check_confidence("moment_estimator", confidence)
    return _moment(samples, k, confidence)
