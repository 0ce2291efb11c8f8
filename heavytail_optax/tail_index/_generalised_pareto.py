"""Maximum likelihood for the generalised Pareto law over a threshold."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._pytrees import vary_like
from heavytail_optax._validation import check_count
from heavytail_optax.tail_index._arguments import (
    check_confidence,
    check_draws,
    check_inflation,
)
from heavytail_optax.tail_index._centring import less_order_statistic
from heavytail_optax.tail_index._order_statistics import largest
from heavytail_optax.tail_index._result import from_gamma, normal_quantile
from heavytail_optax.tail_index._ties import ties_of_largest

_HALVINGS = 30
_PLACES = 48  # in each part of the search
_NEAR_PLACE = 2.0  # the end of the first part, where gamma is negative or small
_LEAST_GAMMA = -0.5  # below it the likelihood has no regular maximum
# The mean of the signed root of the likelihood ratio is minus this, divided by (1 +
# gamma) and by the root of k. This is measured and checked by a test.
_MEAN_OF_ROOT = 2.4
_NEAR_ZERO = 1e-2  # below this a series of nine terms is exact in float64


class GeneralisedPareto(NamedTuple):
    """A generalised Pareto fit to the excesses over a threshold.

    Equal largest draws are reported as in a `TailIndex`.

    Attributes:
      estimate: alpha = 1 / gamma; infinite if gamma is not positive.
      standard_error: that of alpha.
      lower: lower end of the interval of alpha.
      upper: upper end; infinite if the interval of gamma reaches zero.
      gamma: the shape, often called xi.
      gamma_standard_error: that of gamma.
      k: how many of the largest draws were used. dtype=int32.
      threshold: the next largest draw.
      num_tied: how many of these draws equal the largest, itself included; 1 if none
        does. dtype=int32.
      scale: sigma, in units of the samples.
      scale_standard_error: that of the scale.
      log_likelihood: that of the k excesses.
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
    scale: jax.Array
    scale_standard_error: jax.Array
    log_likelihood: jax.Array


def _log1p_over(u: jax.Array) -> jax.Array:
    """`log(1 + u) / u`, smoothly through zero."""
    is_small = jnp.abs(u) < _NEAR_ZERO
    small_u, large_u = jnp.where(is_small, u, 0.0), jnp.where(is_small, 1.0, u)
    series = sum((-small_u) ** n / (n + 1) for n in range(9))
    return jnp.where(is_small, series, jnp.log1p(large_u) / large_u)


class _Profile(NamedTuple):
    """The most likely scale for a shape, with its score.

    Attributes:
      gamma: the shape.
      scale: the most likely scale for that shape.
      score: has the sign of the derivative of the profile likelihood by gamma.
    """

    gamma: jax.Array
    scale: jax.Array
    score: jax.Array


def _shape_terms(
    excess: jax.Array, u: jax.Array, theta: jax.Array, unit: jax.Array
) -> jax.Array:
    """`y^2 (log(1 + u) - u / (1 + u)) / u^2`, y = x unit, smoothly through u = 0."""
    is_small = jnp.abs(u) < _NEAR_ZERO
    small_u = jnp.where(is_small, u, 0.0)
    series = sum((-small_u) ** n * (n + 1) / (n + 2) for n in range(9))
    y = jnp.where(is_small, excess * unit[..., None], 0.0)
    large_u = jnp.where(is_small, 1.0, u)
    # Where theta is smaller all u are.
    is_used = jnp.abs(theta) * excess[..., 0] > 0.5 * _NEAR_ZERO
    ratio = jnp.where(is_used, unit / jnp.where(is_used, theta, 1.0), 1.0)
    exact = ratio[..., None] ** 2 * (jnp.log1p(large_u) - large_u / (1.0 + large_u))
    return jnp.where(is_small, y**2 * series, exact)


def _profile(place: jax.Array, excess: jax.Array) -> _Profile:
    r"""The fit with the most likely scale for a shape, given `gamma / sigma`.

    With theta = gamma / sigma and `B = mean(x / (1 + theta x))`, the likelihood is
    stationary in sigma at gamma = theta B / (1 - theta B), sigma = B / (1 - theta B).
    So no search is needed. With u = theta x, the score by gamma is there proportional
    to `mean(x^2 (log(1 + u) - u / (1 + u)) / u^2) - B^2 / (1 - theta B)`, which is
    smooth through gamma = 0.

    Args:
      place: `log(1 + theta max(x))`, because theta must be above `-1 / max(x)`.
      excess: x, in descending order along the last axis.
    """
    theta = jnp.expm1(place) / excess[..., 0]
    u = theta[..., None] * excess
    mean = jnp.mean(excess / (1.0 + u), axis=-1)
    rest = jnp.mean(1.0 / (1.0 + u), axis=-1)
    # In a unit in which no square overflows and not all of them vanish.
    unit = jnp.maximum(jnp.abs(theta), 1.0 / excess[..., 0])
    in_unit = jnp.mean(excess * unit[..., None] / (1.0 + u), axis=-1)
    score = jnp.mean(_shape_terms(excess, u, theta, unit), axis=-1) - in_unit**2 / rest
    return _Profile(theta * mean / rest, mean / rest, score)


def _bisect(is_beyond: Callable, low: jax.Array, high: jax.Array) -> jax.Array:
    """The place from which on a condition holds."""

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        beyond = is_beyond(middle)
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))
    return 0.5 * (low + high)


def _newton(function: Callable, place: jax.Array, is_inside: jax.Array) -> jax.Array:
    """One Newton step to the root of a decreasing function, to give it a derivative.

    Args:
      function: function of a place.
      place: the root up to rounding; treated as a constant.
      is_inside: whether the place is a root, and not an end of the search.
    """
    place = jax.lax.stop_gradient(place)
    value, slope = jax.jvp(function, (place,), (jnp.ones_like(place),))
    is_inside &= slope < 0.0
    step = jnp.clip(value / jnp.where(is_inside, slope, 1.0), -0.1, 0.1)
    return place - jnp.where(is_inside, step, 0.0)


class _Search(NamedTuple):
    """The maximum of the profile likelihood; places are those of `_profile`.

    Attributes:
      place: the maximum.
      least: the place where gamma is -1/2.
      right: the end of the search.
      is_whole: whether there is a maximum before the end.
    """

    place: jax.Array
    least: jax.Array
    right: jax.Array
    is_whole: jax.Array


def _likeliest(excess: jax.Array) -> _Search:
    def score(place):
        return _profile(place, excess).score

    k = excess.shape[-1]
    # At the left end gamma is below -1/2.
    left = jnp.full(excess.shape[:-1], -jnp.log(4.0 * k), excess.dtype)
    most = 0.95 * jnp.log(jnp.finfo(excess.dtype).max)
    right = jnp.minimum(jnp.log(excess[..., 0]) + 0.5 * most, most)
    least = _bisect(
        lambda v: _profile(v, excess).gamma > _LEAST_GAMMA,
        *vary_like((left, jnp.zeros_like(left)), excess[..., 0]),
    )
    right, least = jax.lax.stop_gradient((right, least))

    # Besides a maximum inside, the likelihood may rise towards an end: it always does
    # beyond the left end, and on the right if draws equal the threshold. The maximum is
    # where the score stops being positive, for the last time if there are several.
    def place_of(number):
        near = least + (_NEAR_PLACE - least) * number / _PLACES
        share = (number - _PLACES) / _PLACES
        far = _NEAR_PLACE + (right - _NEAR_PLACE) * share
        return jnp.where(number < _PLACES, near, far)

    def add(state, number):
        last, was_rising = state
        is_rising = score(place_of(number)) > 0.0
        is_maximum = was_rising & ~is_rising
        return (jnp.where(is_maximum, number, last), is_rising), None

    numbers = jnp.arange(2 * _PLACES + 1, dtype=excess.dtype)
    start = jnp.zeros_like(least), jnp.zeros(least.shape, bool)
    start = vary_like(start, least)
    (last, is_rising), _ = jax.lax.scan(add, start, numbers)
    is_inside = last > 0.0
    before, after = place_of(jnp.maximum(last - 1.0, 0.0)), place_of(last)
    place = _bisect(lambda v: score(v) < 0.0, before, after)
    place = _newton(score, jnp.where(is_inside, place, least), is_inside)
    # Draws that equal the threshold make the likelihood rise without bound on the
    # right.
    is_tied = (excess[..., -1] == 0.0) & ~(score(least) > 0.0)
    return _Search(place, least, right, is_inside | ~is_rising | is_tied)


def _terms(excess: jax.Array, gamma: jax.Array, scale: jax.Array) -> jax.Array:
    """Minus the log-density of each excess, without the logarithm of the scale."""
    z = excess / scale[..., None]
    return (1.0 + gamma)[..., None] * z * _log1p_over(gamma[..., None] * z)


def _interval(
    excess: jax.Array, search: _Search, confidence, inflation: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The gammas at which the centred signed root is within the normal quantiles."""
    k = excess.shape[-1]
    best = _profile(search.place, excess)
    best_terms = _terms(excess, best.gamma, best.scale)
    z = normal_quantile(confidence, excess.dtype) * jnp.sqrt(inflation)

    def root(v):
        """Normal up to order 1/k if gamma at v is the true one; it decreases with v."""
        at = _profile(v, excess)
        # Term by term, so that a small result is not the difference of large sums.
        lost = jnp.mean(_terms(excess, at.gamma, at.scale) - best_terms, axis=-1)
        lost = 2.0 * k * (lost + jnp.log(at.scale / best.scale))
        is_apart = lost > 0.0
        distance = jnp.sqrt(jnp.where(is_apart, lost, 1.0))
        signed = jnp.where(is_apart, jnp.sign(search.place - v) * distance, 0.0)
        return signed + _MEAN_OF_ROOT / ((1.0 + at.gamma) * jnp.sqrt(1.0 * k))

    def end(level, low, high):
        place = _bisect(lambda v: root(v) < level, low, high)
        is_inside = (root(low) >= level) & (root(high) < level)
        place = _newton(lambda v: root(v) - level, place, is_inside)
        return _profile(place, excess).gamma

    low = end(z, search.least, search.place)
    high = end(-z, search.place, search.right)
    return low, jnp.where(root(search.right) < -z, high, jnp.inf)


# Compiled once for all calls; an eager loop would be compiled again in each call.
@functools.partial(jax.jit, static_argnames="k")
def _fit(
    samples: jax.Array, k: int, confidence, inflation: jax.Array
) -> GeneralisedPareto:
    descending = largest(samples, k + 1)
    threshold = descending[..., -1]
    excess = descending[..., :-1] - threshold[..., None]
    # In units of their median, so that nothing depends on the units of the samples.
    unit = excess[..., k // 2]
    quartile = excess[..., min(k - 1, (3 * k) // 4)]
    ties = ties_of_largest(descending, k + 1)
    is_valid = (quartile > 0.0) & jnp.isfinite(excess[..., 0]) & (ties.count <= k)
    safe_unit = jnp.where(is_valid, unit, 1.0)[..., None]
    dummy = jnp.linspace(2.0, 1.0, k, dtype=excess.dtype)
    dummy = jnp.broadcast_to(dummy, excess.shape)
    excess = jnp.where(is_valid[..., None], excess / safe_unit, dummy)
    search = _likeliest(excess)
    is_valid &= search.is_whole
    best = _profile(search.place, excess)
    interval = _interval(excess, search, confidence, inflation)
    terms = _terms(excess, best.gamma, best.scale)
    log_likelihood = -jnp.sum(terms, axis=-1) - k * (
        jnp.log(best.scale) + jnp.log(unit)
    )
    ties = ties._replace(is_cap=ties.is_cap & is_valid)
    gamma, scale, low, high, log_likelihood = (
        jnp.where(is_valid, x, jnp.nan)
        for x in (best.gamma, best.scale * unit, *interval, log_likelihood)
    )
    error = (1.0 + gamma) * jnp.sqrt(inflation / k)
    index = from_gamma(gamma, error, (low, high), gamma, k, threshold, ties)
    shared = {
        name: value
        for name, value in index._asdict().items()
        if name in GeneralisedPareto._fields
    }
    scale_error = scale * jnp.sqrt(2.0 * (1.0 + gamma) * inflation / k)
    return GeneralisedPareto(
        **shared,
        scale=scale,
        scale_standard_error=jnp.where(ties.is_cap, jnp.inf, scale_error),
        log_likelihood=log_likelihood,
    )


@on_auto_axes
def generalised_pareto(
    samples: npt.ArrayLike,
    k: int,
    *,
    variance_inflation: float | jax.Array = 1.0,
    axis: int | None = -1,
    confidence: float = 0.95,
) -> GeneralisedPareto:
    r"""Fits a generalised Pareto law to the k largest draws, by maximum likelihood.

    .. math::
      P(X - t > y \mid X > t) = \Bigl(1 + \frac{\gamma y}{\sigma}\Bigr)^{-1/\gamma},
      \qquad t = X_{(k+1)},

    This is the limit of every tail that has a limit: gamma > 0 is a power law of index
    1/gamma, gamma = 0 an exponential tail, gamma < 0 a bounded law. So the fit can say
    "not heavy-tailed", and a shift of the samples changes nothing. The standard errors
    are those of the theory, `(1 + gamma) / sqrt(k)` for gamma. The interval is that of
    the profile likelihood,

    .. math::
      r(\gamma) = \operatorname{sign}(\hat\gamma - \gamma)
        \sqrt{2 \bigl(\ell(\hat\gamma, \hat\sigma)
        - \max_\sigma \ell(\gamma, \sigma)\bigr)}
      \approx N\Bigl(-\frac{2.4}{(1 + \gamma) \sqrt{k}}, 1\Bigr),

    It is longer upwards, because few draws say little about how heavy a tail may be.
    For draws from this law, it covers 93 to 96 % instead of 95 from k = 20 on.

    Args:
      samples: floating array, of any sign. NumPy float64 is centred in float64 before
        it becomes float32.
      k: how many of the largest draws to use, from 5 to n - 1. For a given threshold,
        append it to the samples and pass the number of draws above it.
      variance_inflation: as for `hill`: from `extremal_index`, for dependent draws.
      axis: the axis of the draws; None takes all axes together.
      confidence: confidence level of the interval, between 0 and 1.

    Returns:
      A `GeneralisedPareto`; each field has the shape of the samples without the axis.
      gamma is at least -1/2; below, the likelihood is not regular. The fields are NaN
      if a draw is infinite, if at least a quarter of the k draws equal the threshold,
      or if the draws are too far apart for their dtype, as those of a power law of
      index 0.1 in float32. If the largest draws were cut off (see `TailIndex`), the
      interval is from zero to infinity.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if k, the axis or the confidence is out of range.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.lomax(2.0).sample(jax.random.key(0), (10_000,))
      >>> result = hto.tail_index.generalised_pareto(draws, 2000)
      >>> bool(result.lower < 2.0 < result.upper)
      True

    References:
      Smith, "Maximum likelihood estimation in a class of nonregular cases", Biometrika
      72 (1985); Davison, Smith, "Models for exceedances over high thresholds", JRSS B
      52 (1990), section 3, for the profile likelihood; Grimshaw, "Computing maximum
      likelihood estimates for the generalized Pareto distribution", Technometrics 35
      (1993), for the search along gamma / sigma; DiCiccio, Martin, Stern, "Simple and
      accurate one-sided inference from signed roots of likelihood ratios", Canadian
      Journal of Statistics 29 (2001), for the mean of the root.
    """
    draws = check_draws("generalised_pareto", samples, axis, least=6)
    k = check_count("generalised_pareto", "k", k, 5, draws.shape[-1] - 1)
    check_confidence("generalised_pareto", confidence)
    samples, centre = less_order_statistic(draws, k)
    inflation = check_inflation("generalised_pareto", variance_inflation, samples)
    fit = _fit(samples, k, confidence, inflation)
    return fit._replace(threshold=fit.threshold + centre)
