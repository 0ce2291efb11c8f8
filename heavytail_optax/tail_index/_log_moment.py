"""The log-moment estimator of the index of a stable law."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._result_text import short_repr
from heavytail_optax._validation import check_count, is_integer
from heavytail_optax.tail_index._arguments import check_confidence, check_samples
from heavytail_optax.tail_index._result import inverse_or_infinity, normal_quantile
from heavytail_optax.tail_index._ties import ties_of_largest

_NAME = "log_moment"


class LogMoment(NamedTuple):
    """An estimate of the index of a stable law; each field has the shape of the batch.

    Attributes:
      estimate: alpha.
      standard_error: that of alpha, for any law of the draws.
      lower: lower end of the interval.
      upper: upper end.
      block_size: m, the number of draws in each sum. dtype=int32.
      num_blocks: the number of sums. dtype=int32.
    """

    estimate: jax.Array
    standard_error: jax.Array
    lower: jax.Array
    upper: jax.Array
    block_size: jax.Array
    num_blocks: jax.Array

    __repr__ = short_repr


# One program per shape: compiling the operations one by one takes far longer.
@functools.partial(jax.jit, static_argnames="block_size")
def _log_moment(samples: jax.Array, block_size: int, confidence) -> LogMoment:
    num_blocks = samples.shape[-1] // block_size
    used = samples[..., : num_blocks * block_size]
    blocks = used.reshape(*samples.shape[:-1], num_blocks, block_size)
    growth = jnp.log(jnp.abs(jnp.sum(blocks, axis=-1))) - jnp.mean(
        jnp.log(jnp.abs(blocks)), axis=-1
    )
    growth = growth / jnp.log(jnp.asarray(block_size, samples.dtype))
    growth = jnp.where(jnp.isfinite(growth), growth, jnp.nan)
    inverse = jnp.mean(growth, axis=-1)
    error = jnp.std(growth, axis=-1, ddof=1) / jnp.sqrt(1.0 * num_blocks)
    half = normal_quantile(confidence, samples.dtype) * error
    alpha = inverse_or_infinity(inverse)
    shape = alpha.shape
    return LogMoment(
        estimate=alpha,
        standard_error=alpha**2 * error,
        lower=inverse_or_infinity(inverse + half),
        upper=inverse_or_infinity(inverse - half),
        block_size=jnp.full(shape, block_size, jnp.int32),
        num_blocks=jnp.full(shape, num_blocks, jnp.int32),
    )


@on_auto_axes
def log_moment(
    samples: npt.ArrayLike,
    block_size: int | None = None,
    *,
    axis: int | None = -1,
    confidence: float = 0.95,
) -> LogMoment:
    r"""The log-moment estimator, which assumes that the law is stable.

    A sum of m independent draws from a centred stable law has the law of `m^(1/alpha)`
    times one draw. So, with the sums `Y_i` of B blocks of m draws,

    .. math::
      \frac1{\hat\alpha} = \frac1{\log m} \Bigl(
        \frac1B \sum_{i=1}^{B} \log |Y_i| - \frac1{mB} \sum_{j=1}^{mB} \log |X_j|
      \Bigr).

    **It measures how sums grow, not how heavy the tail is.** Sums of draws with finite
    variance, heavy-tailed or not, grow like the root of m. The estimate of `1/alpha` is
    then

    .. math:: \frac12 + \frac{\text{a constant of the law}}{\log m}

    The constant is positive if small values are more frequent than under a Gaussian.
    For m = 100, the estimate of alpha is 1.78 for Laplace draws, 1.77 for a Student law
    of tail index 3 and 1.95 for one of 10. **An estimate below 2 is no evidence of a
    tail index below 2**, or of any power law. As an estimate of the tail index of a law
    that is not stable, it is wrong at every sample size. `docs/tail_index.md` has the
    table. Dependent draws that cancel or add up change it further. Use it to compare
    with papers that report it. For tails, use `hill` and the other estimators here.

    The standard error is that of the mean over the blocks, which are independent. It
    says how well the quantity above is known, not whether it is a tail index.

    Args:
      samples: floating array of independent, centred draws, symmetric or with alpha !=
        1. A draw that is exactly zero has no logarithm and gives NaN. So does one that
        is not finite.
      block_size: m, at least 2, and such that there are at least two blocks. Default:
        the root of n, as in the papers. Draws that do not fill a block are left out.
      axis: the axis of the draws; None takes all axes together.
      confidence: confidence level of the interval, between 0 and 1.

    Returns:
      A `LogMoment`; each field has the shape of the samples without the axis. If the
      largest absolute values were cut off (see `TailIndex`), the law is not stable, and
      the interval is from zero to infinity.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range, or there are fewer than four draws.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.alpha_stable(1.5).sample(jax.random.key(0), (10_000,))
      >>> result = hto.tail_index.log_moment(draws)
      >>> bool(result.lower < 1.5 < result.upper)
      True

    References:
      Mohammadi, Mohammadpour, Ogata, "On estimating the tail index and the spectral
      measure of multivariate alpha-stable distributions", Metrika 78 (2015), corollary
      2.4; Simsekli, Sagun, Gurbuzbalaban, ICML 2019 (arXiv 1901.06053), who use it for
      gradient noise.
    """
    samples = check_samples(_NAME, samples, axis, least=4)
    size = samples.shape[-1]
    if block_size is None:
        block_size = int(size**0.5)
    elif is_integer(block_size):
        block_size = check_count(
            _NAME, "block_size", block_size, 2, size // 2, most_is="half of the draws"
        )
    else:
        check_count(_NAME, "block_size", block_size, 2)
    check_confidence(_NAME, confidence)
    result = _log_moment(samples, block_size, confidence)
    is_cap = ties_of_largest(jnp.abs(samples), samples.shape[-1]).is_cap & ~jnp.isnan(
        result.estimate
    )
    return result._replace(
        standard_error=jnp.where(is_cap, jnp.inf, result.standard_error),
        lower=jnp.where(is_cap, 0.0, result.lower),
        upper=jnp.where(is_cap, jnp.inf, result.upper),
    )
