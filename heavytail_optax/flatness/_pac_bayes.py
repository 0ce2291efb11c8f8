"""PAC-Bayes sharpness: the largest Gaussian noise that the loss tolerates."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._result_text import is_one_number, short_repr, with_error
from heavytail_optax._typing import Key, Params, PyTree, Scalar
from heavytail_optax._validation import check_bool, check_count
from heavytail_optax.flatness._arguments import (
    Loss,
    check_args,
    check_finite,
    check_floor,
    check_loss,
    check_params,
)
from heavytail_optax.flatness._loss_changes import (
    check_samples_at_once,
    loss_at,
    loss_changes,
    mean_and_standard_error,
)
from heavytail_optax.flatness._search import (
    SharpnessSearch,
    check_search,
    in_words,
    largest_within,
)

_NAME = "pac_bayes_sharpness"


class PacBayesSettings(NamedTuple):
    """The settings of a PAC-Bayes sharpness: the arguments with these names."""

    target: Scalar
    lower: Scalar
    upper: Scalar
    tolerance: Scalar
    num_samples: int
    signed: bool
    adaptive: bool
    floor: Scalar

    __repr__ = short_repr


class PacBayesSharpness(NamedTuple):
    """Result of `pac_bayes_sharpness`; numbers are at least float32.

    Attributes:
      sharpness: `1 / sigma^2`. shape=().
      standard_error: that of the sharpness, derived from that of the deviation; NaN if
        the search hit a bound. shape=().
      sigma: the largest standard deviation within the target. shape=().
      sigma_standard_error: that of sigma. shape=().
      deviation: deviation of the loss at sigma, a mean over samples. shape=().
      deviation_standard_error: that of the deviation. shape=().
      search: the `SharpnessSearch`: whether it hit a bound, and what it cost.
      settings: the `PacBayesSettings`.
    """

    sharpness: jax.Array
    standard_error: jax.Array
    sigma: jax.Array
    sigma_standard_error: jax.Array
    deviation: jax.Array
    deviation_standard_error: jax.Array
    search: SharpnessSearch
    settings: PacBayesSettings

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.sharpness):
            return repr(self)
        sharpness = with_error(self.sharpness, self.standard_error)
        where = f"sigma {with_error(self.sigma, self.sigma_standard_error)}"
        return f"PAC-Bayes sharpness {in_words(sharpness, self.search)}: {where}"


@functools.partial(
    jax.jit, static_argnames=("loss_fn", "num_samples", "signed", "adaptive", "at_once")
)
def _search(
    loss_fn: Loss,
    params: Params,
    args: tuple[PyTree, ...],
    key: jax.Array,
    loss: jax.Array,
    numbers: tuple[jax.Array, ...],
    *,
    num_samples: int,
    signed: bool,
    adaptive: bool,
    at_once: int,
):
    target, lower, upper, tolerance, floor = numbers

    def deviation(stddev: jax.Array) -> tuple[jax.Array, jax.Array]:
        changes = loss_changes(
            loss_fn=loss_fn,
            params=params,
            args=args,
            key=key,
            loss=loss,
            stddev=stddev,
            floor=floor,
            num_samples=num_samples,
            adaptive=adaptive,
            at_once=at_once,
        )
        return mean_and_standard_error(changes if signed else jnp.abs(changes))

    return largest_within(deviation, target, lower, upper, tolerance)


def pac_bayes_sharpness(
    loss_fn: Loss,
    params: Params,
    *,
    key: Key,
    args: tuple[PyTree, ...] = (),
    target: Scalar = 0.1,
    lower: Scalar = 1e-5,
    upper: Scalar = 10.0,
    tolerance: Scalar = 0.01,
    num_samples: int = 100,
    signed: bool = True,
    adaptive: bool = False,
    floor: Scalar = 0.0,
    samples_at_once: int | None = None,
) -> PacBayesSharpness:
    r"""PAC-Bayes sharpness: `1 / sigma^2`, where sigma is the largest tolerated noise.

    .. math::
      \sigma = \max\bigl\{s : \mathrm{E}\,[L(\theta + \nu) - L(\theta)] \le t\bigr\},
      \qquad \nu_i \sim N(0, s^2) \text{ independent},

    with the absolute value inside the expectation unless `signed`. If `adaptive`, the
    variance is `s^2 theta_i^2 + epsilon^2` instead: this is the magnitude-aware
    measure. For a quadratic loss at its minimum, `sigma^2 = 2 t / tr(H)`.

    Sigma is found by bisection on the logarithmic scale. All its steps use the same
    draws (common random numbers), so the mean over samples is a fixed function of s.
    The search finds where it crosses the target, within a factor `1 + tolerance`. If it
    crosses more than once, the search finds one of the crossings. A loss that is not
    finite exceeds every target. Published numbers are not comparable across codes,
    because these differ in every setting; so the settings are kept in the result. A
    network that has failed to train can look flat, so report its accuracy beside the
    sharpness.

    Cost: `num_samples` evaluations of the loss for each step of the search, and no
    gradient. The search takes at most
    `2 + log2(log(upper / lower) / log(1 + tolerance))` steps, 13 with the defaults.

    Args:
      loss_fn: L, called as `loss_fn(params, *args)`, that returns one floating number:
        the mean loss, or the share of wrongly classified examples, over all examples in
        `args`. It need not be differentiable.
      params: theta, a pytree of floating arrays.
      key: an integer seed, a typed key or a legacy key.
      args: the data, and any other arguments of the loss after the parameters.
      target: t, the accepted deviation, positive, in units of the loss.
      lower: smallest s, positive; in units of the weights, or relative to them if
        `adaptive`.
      upper: largest s.
      tolerance: relative width of the bracket at which the search ends, at most 1.
      num_samples: perturbations for each s.
      signed: whether the deviation is the mean of the changes; else that of their
        absolute values.
      adaptive: whether the noise is in proportion to the weights.
      floor: epsilon, at least 0, in units of the weights; only for `adaptive`.
      samples_at_once: how many perturbed losses are computed side by side; by default
        as many as fit in 512 MiB, by an estimate.

    Returns:
      A `PacBayesSharpness`. Under `jit`, the settings in it are arrays, too.

    Raises:
      TypeError: if an argument has the wrong type, a leaf of `params` is not floating,
        or the loss not a floating number.
      ValueError: if `params` or an array of `args` is empty, the loss is not a scalar
        or not finite at `params`, a setting is out of its range, or a count below one.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> result = hto.flatness.pac_bayes_sharpness(
      ...     lambda w: jnp.sum(w**2), jnp.zeros(50), key=0, target=0.1
      ... )
      >>> bool(abs(result.sharpness - 2 * 50 / (2 * 0.1)) < 4 * result.standard_error)
      True
      >>> bool(result.search.hit_lower), bool(result.search.hit_upper), result.settings.target
      (False, False, 0.1)

    References:
      Jiang et al., "Fantastic generalization measures and where to find them", ICLR
      2020 (arXiv 1912.02178), and Dziugaite et al., "In search of robust measures of
      generalization", NeurIPS 2020 (arXiv 2010.11924).
    """
    params = check_params(_NAME, params)
    check_key(_NAME, key)
    args = check_args(_NAME, args)
    check_search(_NAME, target, lower, upper, tolerance)
    num_samples = check_count(_NAME, "num_samples", num_samples)
    signed = check_bool(_NAME, "signed", signed)
    adaptive = check_bool(_NAME, "adaptive", adaptive)
    check_floor(_NAME, floor, adaptive)
    loss_fn = check_loss(_NAME, loss_fn, params, args)
    at_once = check_samples_at_once(
        _NAME, samples_at_once, num_samples, loss_fn, params, args
    )
    loss = check_finite(_NAME, loss_at(loss_fn, params, args))
    numbers = (target, lower, upper, tolerance, floor)
    search = _search(
        loss_fn,
        params,
        args,
        tagged_key(key, _NAME),
        loss,
        tuple(jnp.asarray(x, loss.dtype) for x in numbers),
        num_samples=num_samples,
        signed=signed,
        adaptive=adaptive,
        at_once=at_once,
    )
    sigma, (deviation, error) = search.low, search.at_low
    # Because of the common draws, a difference quotient over the bracket has little
    # noise.
    slope = (search.at_high[0] - deviation) / (search.high - sigma)
    sigma_error = jnp.where(jnp.isfinite(slope) & (slope > 0.0), error / slope, jnp.nan)
    return PacBayesSharpness(
        sharpness=sigma**-2.0,
        standard_error=2.0 * sigma_error * sigma**-3.0,
        sigma=sigma,
        sigma_standard_error=sigma_error,
        deviation=deviation,
        deviation_standard_error=error,
        search=SharpnessSearch(
            hit_lower=search.hit_lower,
            hit_upper=search.hit_upper,
            num_evaluations=1 + num_samples * search.step,
        ),
        settings=PacBayesSettings(
            target=target,
            lower=lower,
            upper=upper,
            tolerance=tolerance,
            num_samples=num_samples,
            signed=signed,
            adaptive=adaptive,
            floor=floor,
        ),
    )
