"""Maximum likelihood for the generalised Pareto law over a threshold."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._validation import check_count
from heavytail_optax.tail_index._arguments import check_confidence, check_samples
from heavytail_optax.tail_index._order_statistics import largest
from heavytail_optax.tail_index._result import from_gamma, normal_quantile

_HALVINGS = 30
_PLACES = 64
_LEAST_GAMMA = -0.5  # below it the likelihood has no regular maximum
_FARTHEST = 14.0
_LARGEST_PLACE = 80.0
# The mean of the signed root of the likelihood ratio is minus this over (1 + gamma), and
# over the root of k: measured, and held by a test.
_MEAN_OF_ROOT = 2.4
_NEAR_ZERO = 1e-2  # below this a series of eight terms is exact in float64


class GeneralisedPareto(NamedTuple):
    """A generalised Pareto fit to the excesses over a threshold.

    Attributes:
      estimate: alpha = 1 / gamma; infinite where gamma is not positive.
      standard_error: of alpha.
      lower: lower end of the interval of alpha.
      upper: upper end; infinite where the interval of gamma reaches zero.
      gamma: the shape, often called xi.
      gamma_standard_error: of gamma.
      k: how many of the largest draws were used. dtype=int32.
      threshold: the draw next to them.
      scale: sigma, in units of the samples.
      scale_standard_error: of the scale.
      log_likelihood: of the k excesses.
    """

    estimate: jax.Array
    standard_error: jax.Array
    lower: jax.Array
    upper: jax.Array
    gamma: jax.Array
    gamma_standard_error: jax.Array
    k: jax.Array
    threshold: jax.Array
    scale: jax.Array
    scale_standard_error: jax.Array
    log_likelihood: jax.Array


def _log1p_over(u: jax.Array) -> jax.Array:
    """`log(1 + u) / u`, smoothly through zero."""
    is_small = jnp.abs(u) < _NEAR_ZERO
    safe = jnp.where(is_small, 1.0, u)
    series = sum((-u) ** n / (n + 1) for n in range(9))
    return jnp.where(is_small, series, jnp.log1p(safe) / safe)


def _shape_score_term(u: jax.Array) -> jax.Array:
    """`(log(1 + u) - u / (1 + u)) / u^2`, smoothly through zero."""
    is_small = jnp.abs(u) < _NEAR_ZERO
    safe = jnp.where(is_small, 1.0, u)
    series = sum((-u) ** n * (n + 1) / (n + 2) for n in range(9))
    exact = (jnp.log1p(safe) - safe / (1.0 + safe)) / safe**2
    return jnp.where(is_small, series, exact)


class _Profile(NamedTuple):
    """The likeliest scale for a shape, and what there is to know of that fit.

    Attributes:
      gamma: the shape.
      scale: the likeliest scale for it.
      score: of the sign of the derivative of the profile likelihood by gamma.
    """

    gamma: jax.Array
    scale: jax.Array
    score: jax.Array


def _theta(place: jax.Array, excess: jax.Array) -> jax.Array:
    """`gamma / sigma` from a number of any sign: it must be above -1 / max(excess)."""
    return jnp.expm1(place) / excess[..., 0]


def _profile(place: jax.Array, excess: jax.Array) -> _Profile:
    r"""The fit with the likeliest scale for a shape, as a function of `gamma / sigma`.

    With theta = gamma / sigma and `B = mean(x / (1 + theta x))`, the likelihood is
    stationary in sigma at gamma = theta B / (1 - theta B), sigma = B / (1 - theta B):
    no search. The score by gamma is there proportional to
    `mean(x^2 (log(1 + u) - u / (1 + u)) / u^2) - B^2 / (1 - theta B)`, u = theta x, which
    is smooth through gamma = 0.
    """
    theta = _theta(place, excess)
    u = theta[..., None] * excess
    mean = jnp.mean(excess / (1.0 + u), axis=-1)
    rest = jnp.mean(1.0 / (1.0 + u), axis=-1)
    score = jnp.mean(excess**2 * _shape_score_term(u), axis=-1) - mean**2 / rest
    return _Profile(theta * mean / rest, mean / rest, score)


def _bisect(is_beyond: Callable, low: jax.Array, high: jax.Array) -> jax.Array:
    """Where a condition that holds from some place on begins to hold."""

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        beyond = is_beyond(middle)
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))
    return 0.5 * (low + high)


def _likeliest(excess: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The place of the maximum, and the least and the largest place of the search."""
    k = excess.shape[-1]
    zero = jnp.zeros(excess.shape[:-1], excess.dtype)
    # At the left end gamma is below -1/2, and at the right end far above all that k
    # draws can tell; the logarithm keeps it below the largest number.
    left = zero - jnp.log(4.0 * k)
    right = jnp.minimum(jnp.log(excess[..., 0]) + _FARTHEST, _LARGEST_PLACE)
    least = _bisect(lambda v: _profile(v, excess).gamma > _LEAST_GAMMA, left, right)
    # There may be a maximum inside and a rise towards the left end, too, as there always
    # is one beyond it. The maximum is behind the last place where the score is positive.
    shares = jnp.linspace(0.0, 1.0, _PLACES, dtype=excess.dtype)
    step = (right - least) / (_PLACES - 1)

    def add(last, share):
        at = least + share * (right - least)
        return jnp.where(_profile(at, excess).score > 0.0, at, last), None

    before, _ = jax.lax.scan(add, least, shares)
    place = _bisect(lambda v: _profile(v, excess).score < 0.0, before, before + step)
    is_inside = _profile(before, excess).score > 0.0
    place = jnp.where(is_inside, place, least)
    place, least, right = jax.lax.stop_gradient((place, least, right))

    # One step of Newton, which changes the place little and gives it its derivative.
    def score(v):
        return _profile(v, excess).score

    value, slope = jax.jvp(score, (place,), (zero + 1.0,))
    is_inside &= slope < 0.0
    step = value / jnp.where(is_inside, slope, 1.0)
    return place - jnp.where(is_inside, jnp.clip(step, -0.1, 0.1), 0.0), least, right


def _terms(excess: jax.Array, gamma: jax.Array, scale: jax.Array) -> jax.Array:
    """Minus the log-density of each excess, but for the logarithm of the scale."""
    z = excess / scale[..., None]
    return (1.0 + gamma)[..., None] * z * _log1p_over(gamma[..., None] * z)


def _interval(
    excess: jax.Array, place: jax.Array, least: jax.Array, right: jax.Array, confidence
) -> tuple[jax.Array, jax.Array]:
    """Where the signed root of the likelihood ratio, less its mean, is as expected."""
    k = excess.shape[-1]
    best = _profile(place, excess)
    best_terms = _terms(excess, best.gamma, best.scale)
    z = normal_quantile(confidence, excess.dtype)

    def root(v):
        """Of normal law, to order 1/k, if gamma at v is the true one; it falls with v."""
        at = _profile(v, excess)
        # Term by term, so that what is small is not the difference of what is large.
        lost = jnp.mean(_terms(excess, at.gamma, at.scale) - best_terms, axis=-1)
        lost = lost + jnp.log(at.scale / best.scale)
        signed = jnp.sign(place - v) * jnp.sqrt(2.0 * k * jnp.maximum(lost, 0.0))
        return signed + _MEAN_OF_ROOT / ((1.0 + at.gamma) * jnp.sqrt(1.0 * k))

    low = _bisect(lambda v: root(v) < z, least, place)
    high = _bisect(lambda v: root(v) < -z, place, right)
    return _profile(low, excess).gamma, _profile(high, excess).gamma


# Compiled once for all calls: an eager loop would be compiled anew in each.
@functools.partial(jax.jit, static_argnames="k")
def _fit(samples: jax.Array, k: int, confidence) -> GeneralisedPareto:
    descending = largest(samples, k + 1)
    threshold = descending[..., -1]
    excess = descending[..., :-1] - threshold[..., None]
    # In units of their median, so that nothing depends on the units of the samples.
    unit = excess[..., k // 2]
    quartile = excess[..., min(k - 1, (3 * k) // 4)]
    is_valid = (quartile > 0.0) & jnp.isfinite(excess[..., 0])
    safe_unit = jnp.where(is_valid, unit, 1.0)[..., None]
    dummy = jnp.linspace(2.0, 1.0, k, dtype=excess.dtype)
    dummy = jnp.broadcast_to(dummy, excess.shape)
    excess = jnp.where(is_valid[..., None], excess / safe_unit, dummy)
    place, least, right = _likeliest(excess)
    best = _profile(place, excess)
    interval = jax.lax.stop_gradient(_interval(excess, place, least, right, confidence))
    terms = _terms(excess, best.gamma, best.scale)
    log_likelihood = -jnp.sum(terms, axis=-1) - k * (
        jnp.log(best.scale) + jnp.log(unit)
    )
    gamma, scale, low, high, log_likelihood = (
        jnp.where(is_valid, x, jnp.nan)
        for x in (best.gamma, best.scale * unit, *interval, log_likelihood)
    )
    index = from_gamma(
        gamma, (1.0 + gamma) / jnp.sqrt(1.0 * k), (low, high), k, threshold
    )
    return GeneralisedPareto(
        *index,
        scale=scale,
        scale_standard_error=scale * jnp.sqrt(2.0 * (1.0 + gamma) / k),
        log_likelihood=log_likelihood,
    )


def generalised_pareto(
    samples: Any, k: int, *, axis: int | None = -1, confidence: float = 0.95
) -> GeneralisedPareto:
    r"""Fits a generalised Pareto law to the k largest draws, by maximum likelihood.

    .. math::
      P(X - t > y \mid X > t) = \Bigl(1 + \frac{\gamma y}{\sigma}\Bigr)^{-1/\gamma},
      \qquad t = X_{(k+1)},

    the limit of every tail that has one: gamma > 0 is a power law of index 1/gamma,
    gamma = 0 an exponential tail, gamma < 0 a bounded law. So it can say "not
    heavy-tailed", and a shift of the samples changes nothing. The standard errors are
    those of the theory, `(1 + gamma) / sqrt(k)` for gamma. The interval is that of the
    profile likelihood,

    .. math::
      r(\gamma) = \operatorname{sign}(\hat\gamma - \gamma)
        \sqrt{2 \bigl(\ell(\hat\gamma, \hat\sigma)
        - \max_\sigma \ell(\gamma, \sigma)\bigr)}
      \approx N\Bigl(-\frac{2.4}{(1 + \gamma) \sqrt{k}}, 1\Bigr),

    which is longer upwards, since few draws say little about how heavy a tail may be. It
    covers 93 to 96 % instead of 95 from k = 20 on.

    Args:
      samples: floating array, of any sign.
      k: how many of the largest draws to use, from 5 to n - 1. For a given threshold,
        append it to the samples and pass the number of draws above it.
      axis: the axis of the draws; None takes all axes together.
      confidence: of the interval, between 0 and 1.

    Returns:
      A `GeneralisedPareto`; each field has the shape of the samples without the axis.
      gamma is at least -1/2, below which the likelihood is not regular. NaN if a
      quarter of the k draws or more equal the threshold.

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
    samples = check_samples("generalised_pareto", samples, axis, least=6)
    k = check_count("generalised_pareto", "k", k, 5, samples.shape[-1] - 1)
    check_confidence("generalised_pareto", confidence)
    return _fit(samples, k, confidence)
