"""What was tracked during training: tail index, dependence and noise scale."""

from typing import TypeVar

import jax
import jax.numpy as jnp

from heavytail_optax._typing import Params, PyTree, Scalar
from heavytail_optax._validation import (
    check_choice,
    check_count,
    check_positive,
    check_scalar,
    value_error,
)
from heavytail_optax.tail_index._arguments import check_confidence
from heavytail_optax.tail_index._extremal_index import (
    FEWEST_OF_CLUSTERS,
    ExtremalIndex,
    extremal_index_of_largest,
)
from heavytail_optax.tail_index._hill import INTERVALS, Interval, hill
from heavytail_optax.tail_index._noise_scale import GradientNoiseScale, scale_of_moments
from heavytail_optax.tail_index._result import TailIndex
from heavytail_optax.tail_index._squared_norms import unpacked
from heavytail_optax.tail_index._tracking import tracked_names, tracked_part

_INDEX, _CLUSTERS = "tracked_tail_index", "tracked_extremal_index"
_SCALE = "tracked_noise_scale"


def tracked_tail_index(
    state: PyTree,
    params: Params,
    k: int | None = None,
    *,
    interval: Interval = "corrected",
    variance_inflation: float = 1.0,
    confidence: float = 0.95,
) -> dict[str, TailIndex]:
    """Hill's estimate from the state of an optimiser that has `track_tail_index` in it.

    It uses only the finite noise vectors; `tail_non_finite` in the state counts the
    others.

    Args:
      state: the state of the whole optimiser, or a `TrackTailIndexState`.
      params: the parameters, or any pytree with their structure, for the names.
      k: how many of the largest sizes to use, at most the tracked k. Default: that k.
      interval: "corrected" or "uncorrected" for bias, as for `hill`.
      variance_inflation: as for `hill`, if the norms depend on each other; from
        `tracked_extremal_index`.
      confidence: confidence level of the interval, between 0 and 1.

    Returns:
      A `TailIndex` of shape () under "all", and one under the path of each leaf. NaN
      until more than k sizes have been seen.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the state has no such part, does not match `params`, or k is out of
        range.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> params = {"w": jnp.zeros(3)}
      >>> state = hto.tail_index.track_tail_index(50).init(params)
      >>> print(hto.tail_index.tracked_tail_index(state, params)["w"].estimate)
      nan
    """
    check_choice(_INDEX, "interval", interval, INTERVALS)
    check_confidence(_INDEX, confidence)
    tracked = tracked_part(_INDEX, state)
    names = tracked_names(_INDEX, tracked, params)
    largest = tracked.tail_largest
    most = largest.shape[1] - 1
    k = most if k is None else k
    k = check_count(_INDEX, "k", k, 1, most, most_is="the tracked k")
    check_scalar(
        _INDEX,
        "variance_inflation",
        variance_inflation,
        "a finite number of at least 1",
        lambda value: 1.0 <= value < float("inf"),
    )
    inflation = {"variance_inflation": variance_inflation}
    index = hill(largest, k, interval=interval, confidence=confidence, **inflation)
    return _by_name(names, index)


def tracked_extremal_index(
    state: PyTree, params: Params, k: int | None = None, *, confidence: float = 0.95
) -> dict[str, ExtremalIndex]:
    """`extremal_index` from the state of an optimiser that has `track_tail_index` in it.

    The state holds when each of the largest sizes came, so this is exactly that of all
    noise vectors in their order. If `p_value` is below 0.01, they are plainly not
    independent. Then pass the largest `variance_inflation` to `tracked_tail_index`.

    Args:
      state: the state of the whole optimiser, or a `TrackTailIndexState`.
      params: the parameters, or any pytree with their structure, for the names.
      k: how many of the largest sizes to use, from 20 to the tracked k. Default: that k.
      confidence: confidence level of the interval, between 0 and 1.

    Returns:
      An `ExtremalIndex` of shape () under "all", and one under the path of each leaf. NaN
      until more than k noise vectors have been seen, and for the measure "coordinates",
      whose sizes are not in an order.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the state has no such part, does not match `params`, or k is out of
        range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> params = {"w": jnp.zeros(3)}
      >>> tracking = hto.tail_index.track_tail_index(100)
      >>> noise = {"w": jax.random.normal(jax.random.key(0), (5000, 3))}
      >>> _, state = tracking.update(params, tracking.init(params), gradient_noise=noise)
      >>> found = hto.tail_index.tracked_extremal_index(state, params)["w"]
      >>> bool(found.p_value > 0.01)
      True
    """
    check_confidence(_CLUSTERS, confidence)
    tracked = tracked_part(_CLUSTERS, state)
    names = tracked_names(_CLUSTERS, tracked, params)
    most = tracked.tail_largest.shape[1] - 1
    k = most if k is None else k
    least = FEWEST_OF_CLUSTERS
    k = check_count(_CLUSTERS, "k", k, least, most, most_is="the tracked k")
    # With several sizes a noise vector, none is usable.
    has_order = tracked.tail_sizes_each == 1.0
    size = jnp.where(has_order, tracked.tail_seen, 0)
    top = tracked.tail_largest, tracked.tail_when
    found = extremal_index_of_largest(*top, size, k, confidence)
    return _by_name(names, found)


def tracked_noise_scale(
    state: PyTree, params: Params, *, batch_size: Scalar, confidence: float = 0.95
) -> dict[str, GradientNoiseScale]:
    r"""`gradient_noise_scale` from the state of `track_tail_index(noise_scale=True)`.

    With the noise n and the update u of each step, of batches of B examples,

    .. math::
      \operatorname{tr} \Sigma \approx B |n|^2, \qquad |G|^2 \approx |u|^2 - |n|^2.

    This is the form of two batch sizes, B/2 and B, if n is half the difference of the
    gradients of the halves and u their mean. If the noise vectors are those of m
    micro-batches around their mean, `|n|^2` is their mean square over m - 1. The
    covariance and the gradient change during a run: this is their mean over it.

    Args:
      state: the state of the whole optimiser, or a `TrackTailIndexState`.
      params: the parameters, or any pytree with their structure, for the names.
      batch_size: B, positive: how many examples an update is the mean gradient of.
      confidence: level of the interval, between 0 and 1.

    Returns:
      A `GradientNoiseScale` of shape () under "all", and one under the path of each leaf:
      a batch of so many examples, at which noise and gradient have the same squared
      norm. NaN before two steps. If the tail index is below 4, the interval is too
      short, and below 2 the number means nothing.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the state has no such part, was made without `noise_scale`, or does
        not match `params`, or an argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> params = {"w": jnp.zeros(10)}
      >>> tracking = hto.tail_index.track_tail_index(50, noise_scale=True)
      >>> def step(state, key):
      ...     one, other = 1.0 + jax.random.normal(key, (2, 10))  # of half a batch each
      ...     noise = {"w": 0.5 * (one - other)}
      ...     gradient = {"w": 0.5 * (one + other)}
      ...     return tracking.update(gradient, state, gradient_noise=noise)[1], None
      >>> keys = jax.random.split(jax.random.key(0), 500)
      >>> state, _ = jax.lax.scan(step, tracking.init(params), keys)
      >>> found = hto.tail_index.tracked_noise_scale(state, params, batch_size=64)["w"]
      >>> bool(found.lower < 32.0 < found.upper)
      True

    References:
      McCandlish et al., 2018 (arXiv 1812.06162), appendix A.1.
    """
    check_confidence(_SCALE, confidence)
    check_positive(_SCALE, "batch_size", batch_size)
    tracked = tracked_part(_SCALE, state)
    names = tracked_names(_SCALE, tracked, params)
    if not jax.tree.leaves(tracked.tail_squares):
        accepted = "a state of `track_tail_index` with `noise_scale=True`"
        raise value_error(_SCALE, "state", accepted, "one without it")
    found = _scale_of_squares(tracked.tail_squares, jnp.asarray(batch_size), confidence)
    return _by_name(names, found)


@jax.jit
def _scale_of_squares(
    squares: jax.Array, batch_size: jax.Array, confidence: Scalar
) -> GradientNoiseScale:
    found = unpacked(squares)
    size = batch_size.astype(squares.dtype)
    means = jnp.stack([size * found.noise, found.update - found.noise], axis=-1)
    x, xy, y = found[4:]
    both = size * (xy - x)
    covariance = jnp.stack(
        [
            jnp.stack([size**2 * x, both], axis=-1),
            jnp.stack([both, x + y - 2.0 * xy], axis=-1),
        ],
        axis=-1,
    )
    number = jnp.where(found.count > 1.0, found.count * (found.count - 1.0), jnp.nan)
    means = jnp.where(found.count[:, None] > 1.0, means, jnp.nan)
    covariance = covariance / number[:, None, None]
    return scale_of_moments(means, covariance, found.unit, confidence)


_Result = TypeVar("_Result")


def _by_name(names: list[str], rows: _Result) -> dict[str, _Result]:
    return {
        name: jax.tree.map(lambda x, i=i: x[i], rows) for i, name in enumerate(names)
    }
