"""Where the profile likelihood of a generalised Pareto law has its maximum and ends.

XLA compiles a program for each copy of the likelihood, so one loop holds the only one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._pytrees import vary_like
from heavytail_optax.tail_index._sums import sums

_HALVINGS = 50  # to the last digits of float64
_PLACES = 48  # in each part of the search
_NEAR_PLACE = 2.0  # the end of the first part, where gamma is negative or small
_LEAST_GAMMA = -0.5  # below it the likelihood has no regular maximum
# The mean of the signed root of the likelihood ratio is minus this, divided by (1 +
# gamma) and by the root of k. This is measured and checked by a test.
_MEAN_OF_ROOT = 2.4
_NEAR_ZERO = 1e-2  # below this a series of nine terms is exact in float64
_OF_LOG = [1.0 / (n + 1) for n in range(9)]
_OF_SHAPE = [(n + 1) / (n + 2) for n in range(9)]
# Steps of the loop: to the least place, past all places, to the maximum, at the maximum,
# and to the ends of the interval.
_AT_PLACES = _HALVINGS
_TO_MAXIMUM = _AT_PLACES + 2 * _PLACES + 1
_AT_MAXIMUM = _TO_MAXIMUM + _HALVINGS
_TO_ENDS = _AT_MAXIMUM + 1
_ALL_STEPS = _TO_ENDS + _HALVINGS


class Excesses(NamedTuple):
    """Excesses over a threshold.

    Attributes:
      values: in descending order, then zeros. shape=(..., m).
      is_draw: which of them are excesses. shape=(..., m).
      count: how many; floating. shape=().
    """

    values: jax.Array
    is_draw: jax.Array
    count: jax.Array


class Profile(NamedTuple):
    """The most likely scale for a shape, with its score.

    Attributes:
      gamma: the shape.
      scale: the most likely scale for that shape.
      score: has the sign of the derivative of the profile likelihood by gamma.
    """

    gamma: jax.Array
    scale: jax.Array
    score: jax.Array


class Search(NamedTuple):
    """Places of `profile`; each field has the shape of the batch.

    Attributes:
      place: the maximum of the profile likelihood.
      low: the lower end of the interval.
      high: the upper end; the end of the search if there is none before.
      is_inside: whether the maximum is one, and not the place where gamma is -1/2.
      is_whole: whether there is a maximum before the end of the search.
      has_low: whether the lower end is beyond that place.
      has_high: whether the upper end is before the end of the search.
    """

    place: jax.Array
    low: jax.Array
    high: jax.Array
    is_inside: jax.Array
    is_whole: jax.Array
    has_low: jax.Array
    has_high: jax.Array


def _series(u: jax.Array, coefficients: list[float]) -> jax.Array:
    """`sum_n c_n (-u)^n`."""
    total = jnp.full_like(u, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = coefficient - u * total
    return total


def _log1p_over(u: jax.Array) -> jax.Array:
    """`log(1 + u) / u`, smoothly through zero."""
    is_small = jnp.abs(u) < _NEAR_ZERO
    small_u, large_u = jnp.where(is_small, u, 0.0), jnp.where(is_small, 1.0, u)
    return jnp.where(is_small, _series(small_u, _OF_LOG), jnp.log1p(large_u) / large_u)


def _shape_terms(
    excess: jax.Array, u: jax.Array, theta: jax.Array, unit: jax.Array
) -> jax.Array:
    """`y^2 (log(1 + u) - u / (1 + u)) / u^2`, y = x unit, smoothly through u = 0."""
    is_small = jnp.abs(u) < _NEAR_ZERO
    small_u = jnp.where(is_small, u, 0.0)
    y = jnp.where(is_small, excess * unit[..., None], 0.0)
    large_u = jnp.where(is_small, 1.0, u)
    # Where theta is smaller all u are.
    is_used = jnp.abs(theta) * excess[..., 0] > 0.5 * _NEAR_ZERO
    ratio = jnp.where(is_used, unit / jnp.where(is_used, theta, 1.0), 1.0)
    exact = ratio[..., None] ** 2 * (jnp.log1p(large_u) - large_u / (1.0 + large_u))
    return jnp.where(is_small, y**2 * _series(small_u, _OF_SHAPE), exact)


def profile(place: jax.Array, excesses: Excesses) -> Profile:
    r"""The fit with the most likely scale for a shape, given `gamma / sigma`.

    With theta = gamma / sigma and `B = mean(x / (1 + theta x))`, the likelihood is
    stationary in sigma at gamma = theta B / (1 - theta B), sigma = B / (1 - theta B).
    So no search is needed. With u = theta x, the score by gamma is there proportional
    to `mean(x^2 (log(1 + u) - u / (1 + u)) / u^2) - B^2 / (1 - theta B)`, which is
    smooth through gamma = 0.

    Args:
      place: `log(1 + theta max(x))`, because theta must be above `-1 / max(x)`.
      excesses: x.
    """
    x = excesses.values
    theta = jnp.expm1(place) / x[..., 0]
    u = theta[..., None] * x
    # In a unit in which no square overflows and not all of them vanish.
    unit = jnp.maximum(jnp.abs(theta), 1.0 / x[..., 0])
    rests = jnp.where(excesses.is_draw, 1.0 / (1.0 + u), 0.0)
    totals = sums(x / (1.0 + u), rests, _shape_terms(x, u, theta, unit))
    mean, rest, shape = (total / excesses.count for total in totals)
    return Profile(theta * mean / rest, mean / rest, shape - (unit * mean) ** 2 / rest)


def terms(excesses: Excesses, gamma: jax.Array, scale: jax.Array) -> jax.Array:
    """Minus the log-density of each excess, without the logarithm of the scale."""
    z = excesses.values / scale[..., None]
    return (1.0 + gamma)[..., None] * z * _log1p_over(gamma[..., None] * z)


def _root(
    place: jax.Array, at: Profile, best_place: jax.Array, best: Profile, x: Excesses
) -> jax.Array:
    """Normal up to order 1/k if gamma at a place is the true one; it decreases."""
    # Term by term, so that a small result is not the difference of large sums.
    apart = terms(x, at.gamma, at.scale) - terms(x, best.gamma, best.scale)
    lost = sums(apart)[0] / x.count + jnp.log(at.scale / best.scale)
    lost = 2.0 * x.count * lost
    is_apart = lost > 0.0
    distance = jnp.sqrt(jnp.where(is_apart, lost, 1.0))
    signed = jnp.where(is_apart, jnp.sign(best_place - place) * distance, 0.0)
    return signed + _MEAN_OF_ROOT / ((1.0 + at.gamma) * jnp.sqrt(x.count))


class _State(NamedTuple):
    """Of the walk, in one array, because XLA compiles a program for each of them."""

    low: jax.Array  # the end that is searched for, or the lower one
    high: jax.Array
    other_low: jax.Array  # the upper end, if both are searched for
    other_high: jax.Array
    least: jax.Array
    last: jax.Array  # number of the last maximum among the places
    starts_rising: jax.Array
    is_rising: jax.Array
    place: jax.Array
    gamma: jax.Array  # at the maximum
    scale: jax.Array


def _twice(x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(x, (2, *x.shape))


def _end_of_search(x: jax.Array) -> jax.Array:
    most = 0.95 * jnp.log(jnp.finfo(x.dtype).max)
    return jnp.minimum(jnp.log(x[..., 0]) + 0.5 * most, most)


@jax.custom_jvp
def search(excesses: Excesses, z: jax.Array) -> Search:
    """The maximum of the profile likelihood, and the ends of the interval.

    The ends are where the signed root is z and -z.

    Args:
      excesses: the excesses.
      z: half the width of the interval in standard errors, of the shape of the batch.
    """
    x = excesses.values
    right = _end_of_search(x)

    # Besides a maximum inside, the likelihood may rise towards an end: it always does
    # beyond the left end, and on the right if draws equal the threshold. The maximum is
    # where the score stops being positive, for the last time if there are several.
    def place_of(number, least):
        near = least + (_NEAR_PLACE - least) * number / _PLACES
        share = (number - _PLACES) / _PLACES
        far = _NEAR_PLACE + (right - _NEAR_PLACE) * share
        return jnp.where(number < _PLACES, near, far)

    both = Excesses(_twice(x), _twice(excesses.is_draw), excesses.count)
    level = jnp.stack([z, -z])

    def walk(step, packed):
        state = _State(*packed)
        least, last, place = state.least, state.last, state.place
        low = jnp.stack([state.low, state.other_low])
        high = jnp.stack([state.high, state.other_high])
        number = (step - _AT_PLACES).astype(x.dtype)
        is_at_places = (step >= _AT_PLACES) & (step < _TO_MAXIMUM)
        middle = 0.5 * (low + high)
        v = jnp.where(is_at_places, _twice(place_of(number, least)), middle)
        at = profile(v, both)
        best = Profile(_twice(state.gamma), _twice(state.scale), at.score)
        is_beyond = jnp.where(
            step < _AT_PLACES,
            at.gamma > _LEAST_GAMMA,
            jnp.where(
                step < _TO_ENDS,
                at.score < 0.0,
                _root(v, at, _twice(place), best, both) < level,
            ),
        )
        is_halved = ~is_at_places & (step != _AT_MAXIMUM)
        low = jnp.where(is_halved & ~is_beyond, middle, low)
        high = jnp.where(is_halved & is_beyond, middle, high)
        middle = 0.5 * (low + high)[0]
        least = jnp.where(step == _AT_PLACES - 1, middle, least)
        rising = (at.score[0] > 0.0).astype(x.dtype)
        rising = jnp.where(is_at_places, rising, state.is_rising)
        is_maximum = is_at_places & (step > _AT_PLACES) & (rising < state.is_rising)
        last = jnp.where(is_maximum, number, last)
        highest = jnp.where(last > 0.0, middle, least)
        place = jnp.where(step == _AT_MAXIMUM - 1, highest, place)
        # Where the next part of the walk begins.
        before = place_of(jnp.maximum(last - 1.0, 0.0), least)
        for at_step, one, other in (
            (_TO_MAXIMUM - 1, _twice(before), _twice(place_of(last, least))),
            (_AT_MAXIMUM - 1, _twice(place), _twice(place)),
            (_TO_ENDS - 1, jnp.stack([least, place]), jnp.stack([place, right])),
        ):
            low = jnp.where(step == at_step, one, low)
            high = jnp.where(step == at_step, other, high)
        new = _State(
            *(low[0], high[0], low[1], high[1], least, last),
            jnp.where(step == _AT_PLACES, rising, state.starts_rising),
            rising,
            place,
            jnp.where(step == _AT_MAXIMUM, at.gamma[0], state.gamma),
            jnp.where(step == _AT_MAXIMUM, at.scale[0], state.scale),
        )
        return jnp.stack(new)

    # At the left end gamma is below -1/2.
    left = jnp.broadcast_to(-jnp.log(4.0 * excesses.count), right.shape)
    zero = jnp.zeros_like(right)
    one = zero + 1.0
    start = _State(*(left, zero, left, zero, zero, zero, zero, zero, zero, zero, one))
    start = vary_like(jnp.stack(start), x[..., 0])
    end = _State(*jax.lax.fori_loop(0, _ALL_STEPS, walk, start))
    is_inside = end.last > 0.0
    # Draws that equal the threshold make the likelihood rise without bound on the
    # right.
    least_excess = jnp.min(jnp.where(excesses.is_draw, x, jnp.inf), axis=-1)
    is_tied = (least_excess == 0.0) & (end.starts_rising == 0.0)
    return Search(
        place=end.place,
        low=0.5 * (end.low + end.high),
        high=0.5 * (end.other_low + end.other_high),
        is_inside=is_inside,
        is_whole=is_inside | (end.is_rising == 0.0) | is_tied,
        has_low=end.low > end.least,
        has_high=end.other_high < right,
    )


@search.defjvp
def _derivative(primals, tangents):
    """That of roots: minus the function's derivative over its slope."""
    (excesses, z), (steps, z_step) = primals, tangents
    found = search(excesses, z)

    def moved(function, place, is_inside, *others):
        arguments, their_steps = zip(*others, strict=True)
        change = jax.jvp(lambda *rest: function(place, *rest), arguments, their_steps)[
            1
        ]
        ones = (jnp.ones_like(place),)
        slope = jax.jvp(lambda v: function(v, *arguments), (place,), ones)[1]
        is_inside = is_inside & (slope < 0.0)
        return jnp.where(is_inside, -change / jnp.where(is_inside, slope, 1.0), 0.0)

    def score(place, x):
        return profile(place, excesses._replace(values=x)).score

    def above(place, x, best_place, level):
        draws = excesses._replace(values=x)
        best = profile(best_place, draws)
        return _root(place, profile(place, draws), best_place, best, draws) - level

    values = excesses.values, steps.values
    place_step = moved(score, found.place, found.is_inside, values)
    place = found.place, place_step
    low = moved(above, found.low, found.has_low, values, place, (z, z_step))
    high = moved(above, found.high, found.has_high, values, place, (-z, -z_step))
    none = Search(*(np.zeros(x.shape, jax.dtypes.float0) for x in found))
    return found, none._replace(place=place_step, low=low, high=high)
