"""Fits a stable law by regression on the empirical characteristic function."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._result_text import short_repr
from heavytail_optax.tail_index._arguments import check_confidence, check_draws
from heavytail_optax.tail_index._centring import as_samples, less_median
from heavytail_optax.tail_index._result import normal_quantile
from heavytail_optax.tail_index._ties import ties_of_largest

_NAME = "characteristic_function"
# Frequencies 0.1, 0.2, ..., 1.0 in units of the inverse scale.
_SPACING = 0.1
_FREQUENCIES = 10


class StableFit(NamedTuple):
    """Parameters of a stable law; each field has the shape of the batch.

    Attributes:
      estimate: alpha, at most 2.
      standard_error: that of alpha.
      lower: lower end of the interval of alpha.
      upper: upper end, at most 2.
      beta: the skewness, in [-1, 1]; not determined if alpha is near 2.
      beta_standard_error: that of beta.
      scale: c, in units of the samples.
      scale_standard_error: that of the scale.
      location: the location in the parameterisation S0, which is continuous at
        alpha = 1; in units of the samples.
      location_standard_error: that of the location.
    """

    estimate: jax.Array
    standard_error: jax.Array
    lower: jax.Array
    upper: jax.Array
    beta: jax.Array
    beta_standard_error: jax.Array
    scale: jax.Array
    scale_standard_error: jax.Array
    location: jax.Array
    location_standard_error: jax.Array

    __repr__ = short_repr


def _skewness_term(t: jax.Array, alpha: jax.Array) -> jax.Array:
    """`tan(pi alpha / 2) (t^alpha - t)` for positive t, smoothly through alpha = 1."""
    away = alpha - 1.0
    is_pole = jnp.abs(away) < 1e-4
    safe = jnp.where(is_pole, 1.0, away)
    # tan(pi/2 + x) = -1 / tan(x).
    regular = -t * jnp.expm1(safe * jnp.log(t)) / jnp.tan(0.5 * jnp.pi * safe)
    at_pole = -(2.0 / jnp.pi) * t * jnp.log(t)
    return jnp.where(is_pole, at_pole, regular)


def _parameters(parts: jax.Array) -> jax.Array:
    """(alpha, beta, log scale, location) from the values at the frequencies.

    Args:
      parts: real parts, then imaginary parts, shape (2 * frequencies,).
    """
    t = _SPACING * jnp.arange(1, _FREQUENCIES + 1, dtype=parts.dtype)
    real, imaginary = parts[:_FREQUENCIES], parts[_FREQUENCIES:]
    # log(-log|phi|^2 / 2) = alpha log(scale) + alpha log t.
    modulus = jnp.clip(real**2 + imaginary**2, 1e-30, 1.0 - 1e-6)
    response = jnp.log(-0.5 * jnp.log(modulus))
    logs = jnp.log(t)
    centred = logs - jnp.mean(logs)
    alpha = jnp.sum(centred * response) / jnp.sum(centred**2)
    log_scale = jnp.mean(response) / alpha - jnp.mean(logs)
    # arg phi = location t + beta * term: two regressors, none of them constant. The
    # argument is small at the first frequencies and is unwrapped from there.
    angle = jnp.arctan2(imaginary, real)
    angle = jnp.unwrap(angle)
    scale = jnp.exp(log_scale)
    first, second = t, _skewness_term(scale * t, jnp.clip(alpha, 0.05, 1.999))
    a, b, c = (jnp.sum(x) for x in (first**2, first * second, second**2))
    p, q = jnp.sum(first * angle), jnp.sum(second * angle)
    determinant = a * c - b * b
    location = (c * p - b * q) / determinant
    beta = (a * q - b * p) / determinant
    return jnp.stack([alpha, beta, log_scale, location])


def _empirical(standard: jax.Array) -> jax.Array:
    """Real and imaginary parts at the multiples 0, 1, ..., 2K of the spacing."""

    def at(multiple):
        turn = (_SPACING * multiple).astype(standard.dtype) * standard
        return jnp.stack([jnp.mean(jnp.cos(turn)), jnp.mean(jnp.sin(turn))])

    return jax.lax.map(at, jnp.arange(2 * _FREQUENCIES + 1))


def _covariance(values: jax.Array) -> jax.Array:
    """The covariance of one draw's cosines and sines, from the characteristic function.

    Products of cosines and sines at two frequencies are sums of cosines and sines at
    their sum and difference. All of these are multiples of the spacing.
    """
    index = jnp.arange(1, _FREQUENCIES + 1)
    row, column = jnp.expand_dims(index, 1), jnp.expand_dims(index, 0)
    total, difference = row + column, row - column
    real, imaginary = values[:, 0], values[:, 1]
    sign = jnp.sign(difference).astype(values.dtype)
    real_sum, real_difference = real[total], real[jnp.abs(difference)]
    imaginary_sum = imaginary[total]
    imaginary_difference = sign * imaginary[jnp.abs(difference)]
    cosines = 0.5 * (real_difference + real_sum)
    sines = 0.5 * (real_difference - real_sum)
    mixed = 0.5 * (imaginary_sum - imaginary_difference)  # cos(row) sin(column)
    second = jnp.block([[cosines, mixed], [mixed.T, sines]])
    mean = values[1 : _FREQUENCIES + 1].T.reshape(-1)
    return second - jnp.outer(mean, mean)


def _quantile(ascending: jax.Array, probability: float) -> jax.Array:
    """The quantile by linear interpolation; exact if the two neighbours are equal."""
    place = probability * (ascending.shape[0] - 1)
    index = int(place)
    low, high = ascending[index], ascending[index + 1]
    return low + (place - index) * (high - low)


def _fit(samples: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The parameters and their standard errors from one sample, shape (n,)."""
    ascending = jnp.sort(samples)
    # The centre is a draw: differences from it to nearby draws have no rounding error.
    middle = ascending[(samples.shape[0] - 1) // 2]
    samples, ascending = samples - middle, ascending - middle
    # The quartiles of a symmetric stable law are at 0.95 to 1 scale for alpha >= 1.
    low, centre, high = (_quantile(ascending, p) for p in (0.25, 0.5, 0.75))
    is_spread = high > low
    unit = jnp.where(is_spread, 0.5 * (high - low), 1.0)
    for _ in range(2):  # standardised with the quartiles, then with the first fit
        values = _empirical((samples - centre) / unit)
        parts = values[1 : _FREQUENCIES + 1].T.reshape(-1)
        alpha, beta, log_scale, location = _parameters(parts)
        used_centre, used_unit = centre, unit
        centre = centre + unit * jnp.clip(location, -2.0, 2.0)
        unit = unit * jnp.exp(jnp.clip(log_scale, -2.0, 2.0))
    jacobian = jax.jacobian(_parameters)(parts)
    covariance = jacobian @ _covariance(values) @ jacobian.T / samples.shape[0]
    errors = jnp.sqrt(jnp.diagonal(covariance))
    scale = used_unit * jnp.exp(log_scale)
    location = middle + (used_centre + used_unit * location)
    estimates = jnp.stack([alpha, beta, scale, location])
    units = jnp.stack([jnp.ones_like(scale), jnp.ones_like(scale), scale, used_unit])
    estimates, errors = (
        jnp.where(is_spread, x, jnp.nan) for x in (estimates, errors * units)
    )
    return estimates, errors


# Compiled once for all calls; an eager loop would be compiled again in each call.
_fits = jax.jit(jax.vmap(_fit))


def _is_cut_off(centred: jax.Array, samples: jax.Array) -> jax.Array:
    """Whether the largest absolute values were cut off, for each row.

    At least one end of the centred draws must have equal draws, too: far from zero,
    draws may be equal only because they lack digits.
    """
    sizes = jnp.abs(samples).reshape(centred.shape)
    size = sizes.shape[-1]
    at_an_end = ties_of_largest(centred, size).count > 1
    at_an_end |= ties_of_largest(-centred, size).count > 1
    return ties_of_largest(sizes, size).is_cap & at_an_end


@on_auto_axes
def characteristic_function(
    samples: npt.ArrayLike, *, axis: int | None = -1, confidence: float = 0.95
) -> StableFit:
    r"""Fits a stable law by regression on the empirical characteristic function.

    .. math::
      \log\bigl(-\log |\hat\varphi(t)|\bigr) = \alpha \log c + \alpha \log t, \qquad
      \arg \hat\varphi(t) = \delta t + \beta \tan\tfrac{\pi\alpha}{2}
        \bigl((c t)^\alpha - c t\bigr),

    for standardised samples and t = 0.1, 0.2, ..., 1. If the law is stable, this is far
    more precise than `log_moment`. If it is not, the fit describes the bulk of the law
    and says nothing about the tail: for a Student law of tail index 3, the estimate is
    1.7. The standard errors come from the covariance of the empirical characteristic
    function, by the delta method.

    Args:
      samples: floating array of independent draws. NumPy float64 is centred in float64
        before it becomes float32, so that a large location costs no digits.
      axis: the axis of the draws; None takes all axes together.
      confidence: confidence level of the interval, between 0 and 1.

    Returns:
      A `StableFit`. The laws are those of `tails.alpha_stable`, except for the
      location. The fields are NaN if a draw is not finite. They are also NaN if the
      quartiles are equal, for example because most draws are the same number: no stable
      law has such a point mass. If the largest absolute values were cut off (see
      `TailIndex`), the law is not stable: standard errors are infinite, and the
      interval is from zero to 2.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the axis or the confidence is out of range, or there are fewer than
        ten draws.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.alpha_stable(1.5).sample(jax.random.key(0), (10_000,))
      >>> result = hto.tail_index.characteristic_function(draws)
      >>> bool(result.lower < 1.5 < result.upper)
      True

    References:
      Koutrouvelis, "Regression-type estimation of the parameters of stable laws", JASA
      75 (1980); Kogon, Williams, "Characteristic function based estimation of stable
      distribution parameters" (1998), for the frequencies and the continuous form.
    """
    draws = check_draws(_NAME, samples, axis, least=10)
    check_confidence(_NAME, confidence)
    samples, centre = less_median(draws)
    flat = samples.reshape(-1, samples.shape[-1])
    estimates, errors = _fits(flat)
    errors = jnp.where(_is_cut_off(flat, as_samples(draws))[:, None], jnp.inf, errors)
    shape = samples.shape[:-1]
    alpha, beta, scale, location = (x.reshape(shape) for x in estimates.T)
    alpha_error, *other_errors = (x.reshape(shape) for x in errors.T)
    half = normal_quantile(confidence, samples.dtype) * alpha_error
    return StableFit(
        estimate=jnp.minimum(alpha, 2.0),
        standard_error=alpha_error,
        lower=jnp.clip(alpha - half, 0.0, 2.0),
        upper=jnp.clip(alpha + half, 0.0, 2.0),
        beta=jnp.clip(beta, -1.0, 1.0),
        beta_standard_error=other_errors[0],
        scale=scale,
        scale_standard_error=other_errors[1],
        location=location + centre,
        location_standard_error=other_errors[2],
    )
