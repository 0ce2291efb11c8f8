"""Compares the power law with other tail laws, by likelihood ratios."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._pytrees import vary_like
from heavytail_optax._result_text import short_repr
from heavytail_optax._validation import type_error, value_error
from heavytail_optax.tail_index._arguments import check_fewer_than, check_samples
from heavytail_optax.tail_index._log_excesses import LogExcesses, log_excesses_of_first
from heavytail_optax.tail_index._padded_draws import as_traced, largest_padded
from heavytail_optax.tail_index._quick_programs import quick_jit
from heavytail_optax.tail_index._sums import sums
from heavytail_optax.tail_index._tail_laws import (
    lognormal_fit,
    stable_log_density,
    student_log_density,
)
from heavytail_optax.tail_index._truncated_exponential import log_mass, slope_of_mean

_NAME = "compare_fits"
_ALTERNATIVES = (
    "exponential",
    "lognormal",
    "student_t",
    "stable",
    "truncated_power_law",
)
# The searches end at this share of their box, well within a standard error.
_FINEST = 2.0**-12
_MOST_ROUNDS = 60
_STARTS = 8


class TailFit(NamedTuple):
    """A law fitted to the draws above a threshold; fields have the batch's shape.

    Attributes:
      first: alpha of the power law, the rate of the exponential in units of the inverse
        threshold, mu of the lognormal (of X over the threshold), the degrees of freedom
        of Student's law, alpha of the stable law.
      second: sigma of the lognormal; the scale of Student's and of the stable law, in
        units of the threshold; NaN for the others.
      log_likelihood: that of the k draws, given that they are above the threshold.
      ratio: log-likelihood of the power law minus this one. It is positive if the power
        law fits better.
      normalised_ratio: Vuong's ratio: the ratio over its standard error, under the
        hypothesis that both laws are equally far from the truth.
      p_value: two-sided p-value of the normalised ratio. If it is large, the sign of
        the ratio means nothing.
    """

    first: jax.Array
    second: jax.Array
    log_likelihood: jax.Array
    ratio: jax.Array
    normalised_ratio: jax.Array
    p_value: jax.Array

    __repr__ = short_repr


def _maximise(function: Callable, low: tuple, high: tuple, dtype) -> jax.Array:
    """The maximum of a function of two numbers in a box, by a moving, shrinking grid.

    Each round evaluates 5 by 5 points around the best so far. The spacing is halved
    only if the best point is not at the edge: the likelihood of a shape and a scale is
    a narrow diagonal ridge, and a grid that shrank every time would stop too early on
    it. There are several starts along the second number, because both laws become the
    power law as the scale goes to zero, and the likelihood has a second maximum there.
    """
    low, high = jnp.asarray(low, dtype), jnp.asarray(high, dtype)
    steps = jnp.linspace(-1.0, 1.0, 5, dtype=dtype)
    first, second = jnp.meshgrid(steps, steps)
    offsets = jnp.stack([first.ravel(), second.ravel()], axis=-1)

    def best_of(points):
        values = jax.lax.map(lambda point: function(point[0], point[1]), points)
        return points[jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))]

    def is_searching(state):
        _, share, round_number = state
        return (share > _FINEST) & (round_number < _MOST_ROUNDS)

    def look_closer(state):
        centre, share, round_number = state
        half = 0.5 * share * (high - low)
        points = centre[None] + half[None] * offsets
        points = jnp.clip(points, low[None], high[None])
        best = best_of(points)
        is_at_rim = jnp.any(jnp.abs(best - centre) > 0.75 * half)
        return best, jnp.where(is_at_rim, share, 0.5 * share), round_number + 1

    def search(second):
        shapes = jnp.linspace(low[0], high[0], 4 * _STARTS, dtype=dtype)
        start = best_of(jnp.stack([shapes, jnp.full_like(shapes, second)], axis=-1))
        rest = jnp.asarray(1.0 / _STARTS, dtype), jnp.asarray(0)
        state = start, *vary_like(rest, start[0])
        return jax.lax.while_loop(is_searching, look_closer, state)[0]

    return best_of(jax.lax.map(search, jnp.linspace(low[1], high[1], _STARTS)))


def _fit_exponential(y: jax.Array, count: jax.Array):
    excess = jnp.expm1(y)
    rate = count / sums(excess)[0]
    return rate, jnp.full_like(rate, jnp.nan), jnp.log(rate) - rate * excess + y


def _total(each: jax.Array, count: jax.Array) -> jax.Array:
    """The sum of the first so many."""
    place = jnp.arange(each.shape[0])
    return sums(jnp.where(place < count, each, 0.0))[0]


def _fit_student(y: jax.Array, count: jax.Array):
    def log_likelihood(log_df, log_scale):
        return _total(student_log_density(jnp.exp(log_df), log_scale, y), count)

    log_df, log_scale = _maximise(log_likelihood, (-1.6, -6.0), (4.0, 1.0), y.dtype)
    df = jnp.exp(log_df)
    return df, jnp.exp(log_scale), student_log_density(df, log_scale, y)


def _fit_stable(y: jax.Array, count: jax.Array):
    def log_likelihood(alpha, log_scale):
        return _total(stable_log_density(alpha, log_scale, y), count)

    alpha, log_scale = _maximise(log_likelihood, (0.3, -6.0), (1.99, 1.0), y.dtype)
    return alpha, jnp.exp(log_scale), stable_log_density(alpha, log_scale, y)


def _fit_truncated(y: jax.Array, count: jax.Array):
    """The most likely end is the largest draw."""
    length = y[0]
    u = slope_of_mean(sums(y)[0] / count / length)
    each = -u * y / length - log_mass(u) - jnp.log(length)
    return u / length, jnp.exp(length), each


_FITS = {
    "exponential": _fit_exponential,
    "lognormal": lognormal_fit,
    "student_t": _fit_student,
    "stable": _fit_stable,
    "truncated_power_law": _fit_truncated,
}


def _compare(
    excesses: LogExcesses, k: jax.Array, alternatives: tuple[str, ...]
) -> dict[str, TailFit]:
    """The fits to one sample of `log(X / threshold)` in descending order."""
    y, _, ties = excesses
    count = k.astype(y.dtype)
    is_draw = jnp.arange(y.shape[0]) < k
    alpha = count / sums(y)[0]
    power_law = jnp.log(alpha) - alpha * y
    laws = [_FITS[name](y, count) for name in alternatives]
    each = [jnp.where(is_draw, x, 0.0) for x in (power_law, *(x[2] for x in laws))]
    apart = [each[0] - x for x in each[1:]]
    log_likelihood, *totals = sums(*each, *apart)
    likelihoods, ratios = totals[: len(laws)], totals[len(laws) :]
    around = [
        jnp.where(is_draw, x - ratio / count, 0.0) ** 2
        for x, ratio in zip(apart, ratios, strict=True)
    ]
    zero, nan = jnp.zeros_like(alpha), jnp.full_like(alpha, jnp.nan)
    fits = {"power_law": TailFit(alpha, nan, log_likelihood, zero, zero, zero + 1)}
    if laws:
        ratio, spread = jnp.stack(ratios), jnp.sqrt(jnp.stack(sums(*around)))
        # Two laws that coincide: neither is better.
        is_same = spread < 1e-4
        normalised = jnp.where(is_same, 0.0, ratio / jnp.where(is_same, 1.0, spread))
        # A density says nothing about draws for which only a lower bound is known.
        ratio, normalised = (
            jnp.where(ties.is_cap, jnp.nan, x) for x in (ratio, normalised)
        )
        p_value = 2.0 * jax.scipy.stats.norm.sf(jnp.abs(normalised))
        for i, (name, (first, second, _)) in enumerate(
            zip(alternatives, laws, strict=True)
        ):
            numbers = likelihoods[i], ratio[i], normalised[i], p_value[i]
            fits[name] = TailFit(first, second, *numbers)
    is_finite = jnp.all(jnp.isfinite(y))
    return jax.tree.map(lambda x: jnp.where(is_finite, x, jnp.nan), fits)


# Compiled once for all calls; an eager loop would be compiled again in each call.
@functools.partial(quick_jit, static_argnames=("alternatives",))
def fits_of_first(
    descending: jax.Array, k: jax.Array, alternatives: tuple[str, ...]
) -> dict[str, TailFit]:
    """The fits to the first k of draws in descending order, k below their number."""
    batch = descending.shape[:-1]
    excesses = log_excesses_of_first(descending, jnp.broadcast_to(k, batch))
    if not batch:
        return _compare(excesses, k, alternatives)
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(batch) :]), excesses)
    fits = jax.lax.map(lambda one: _compare(one, k, alternatives), rows)
    return jax.tree.map(lambda x: x.reshape(batch), fits)


@on_auto_axes
def compare_fits(
    samples: npt.ArrayLike,
    k: int,
    *,
    alternatives: tuple[str, ...] = _ALTERNATIVES,
    axis: int | None = -1,
) -> dict[str, TailFit]:
    r"""Compares the power law with other laws for the k largest draws.

    Each law is fitted by maximum likelihood to the draws above the threshold
    `t = X_(k+1)`, given that they are above it. So the body of the law has no
    influence. For each alternative q to the power law p,

    .. math::
      R = \sum_{i=1}^{k} \log \frac{p(X_{(i)})}{q(X_{(i)})},
      \qquad z = \frac{R}{\sqrt{k}\, s},

    where s is the standard deviation of the k terms. A positive R favours the power
    law. If `|z|` is below 2, the draws do not decide.

    The power law is a limit of the lognormal, of Student's and of the stable law. So
    these fit at least nearly as well (R is not much above zero), and z is conservative.
    For the lognormal, `-2 R` above 5.4 rejects the power law at the level of 1 %.
    Student's and the stable law are centred, two-sided laws of one coordinate: pass the
    absolute values of coordinates or projections. Norms of vectors have no such law, so
    leave these two out for norms. The truncated power law ends at the largest draw, the
    most likely end, so its likelihood is always higher; `truncated_pareto` tests whether
    there is an end.

    Args:
      samples: floating array; the k + 1 largest along the axis must be positive and
        finite, or the result is NaN.
      k: how many of the largest draws to use, from 5 to n - 1.
      alternatives: some of "exponential", "lognormal", "student_t", "stable" and
        "truncated_power_law". The stable law takes a second or so, the others
        milliseconds.
      axis: the axis of the draws; None takes all axes together.

    Returns:
      A dictionary of `TailFit`, with the key "power_law" and one key per alternative.
      If the largest draws were cut off (see `TailIndex`), the ratios and p-values of
      the alternatives are NaN.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range, or an alternative is unknown.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = abs(hto.tails.gaussian().sample(jax.random.key(0), (10_000,)))
      >>> fits = hto.tail_index.compare_fits(draws, 500, alternatives=("exponential",))
      >>> bool(fits["exponential"].normalised_ratio < -2)
      True

    References:
      Vuong, "Likelihood ratio tests for model selection and non-nested hypotheses",
      Econometrica 57 (1989); Clauset, Shalizi, Newman, "Power-law distributions in
      empirical data", SIAM Review 51 (2009), section 5.
    """
    samples = check_samples(_NAME, samples, axis, least=6)
    k = check_fewer_than(_NAME, "k", k, 5, samples.shape[-1])
    accepted = f"a tuple of some of {', '.join(map(repr, _ALTERNATIVES))}"
    if not isinstance(alternatives, (tuple, list)):
        raise type_error(_NAME, "alternatives", accepted, alternatives)
    if any(name not in _ALTERNATIVES for name in alternatives):
        raise value_error(_NAME, "alternatives", accepted, alternatives)
    names = tuple(name for name in _ALTERNATIVES if name in alternatives)
    return fits_of_first(largest_padded(samples, k + 1), as_traced(k), names)
