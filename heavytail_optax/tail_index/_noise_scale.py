"""Gradient noise scale: the batch size at which noise and gradient are of one size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._result_text import is_one_number, short_repr
from heavytail_optax._typing import Scalar
from heavytail_optax._validation import check_positive, value_error
from heavytail_optax.tail_index._arguments import check_confidence, check_samples
from heavytail_optax.tail_index._result import normal_quantile

_NAME = "gradient_noise_scale"


class GradientNoiseScale(NamedTuple):
    """Result of `gradient_noise_scale`; each field has the shape of the batch.

    Attributes:
      noise_scale: `tr(Sigma) / |G|^2`, a number of examples. Zero where the first
        estimate is negative, infinite where the second is not positive.
      lower: lower end of its interval.
      upper: upper end; infinite where `|G|^2` is not told from zero.
      trace: estimate of `tr(Sigma)`, the variance of one example's gradient. Its
        expectation is right; it can be negative.
      trace_standard_error: of the trace.
      squared_gradient: estimate of `|G|^2`, likewise.
      squared_gradient_standard_error: of the squared gradient.
    """

    noise_scale: jax.Array
    lower: jax.Array
    upper: jax.Array
    trace: jax.Array
    trace_standard_error: jax.Array
    squared_gradient: jax.Array
    squared_gradient_standard_error: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.noise_scale):
            return repr(self)
        ends = f"({self.lower:.4g} to {self.upper:.4g})"
        return f"{self.noise_scale:.4g} examples {ends}"


def _ratio_bounds(
    above: jax.Array, below: jax.Array, covariance: jax.Array, quantile: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Fieller's bounds of a ratio of two means, with their covariance matrix."""
    square = quantile**2
    a = below**2 - square * covariance[..., 1, 1]
    b = above * below - square * covariance[..., 0, 1]
    c = above**2 - square * covariance[..., 0, 0]
    root = jnp.sqrt(jnp.maximum(b**2 - a * c, 0.0))
    is_bounded = (a > 0.0) & (below > 0.0)
    # Where the denominator may be zero, all that is above the positive root is possible,
    # or, where the numerator may be zero too, everything.
    upper = jnp.where(is_bounded, (b + root) / a, jnp.inf)
    # The other root; their product is c / a.
    lower = jnp.where(c > 0.0, c / (b + root), 0.0)
    # A mean that is plainly negative by chance: the denominator is at most its error.
    errors = quantile * jnp.sqrt(jnp.diagonal(covariance, axis1=-2, axis2=-1))
    least = (above - errors[..., 0]) / errors[..., 1]
    lower = jnp.where((a > 0.0) & (below <= 0.0), least, lower)
    return jnp.maximum(lower, 0.0), jnp.maximum(upper, 0.0)


def scale_of_moments(
    means: jax.Array, covariance: jax.Array, unit: jax.Array, confidence: Scalar
) -> GradientNoiseScale:
    """The ratio of two means, with its interval.

    Args:
      means: of the estimates of the trace and of the squared gradient, in units of the
        square of `unit`. shape=(..., 2).
      covariance: of these means. shape=(..., 2, 2).
      unit: shape (...).
      confidence: level of the interval.
    """
    quantile = normal_quantile(confidence, means.dtype)
    trace, square = means[..., 0], means[..., 1]
    confidence = jnp.asarray(confidence)
    lower, upper = _ratio_bounds(trace, square, covariance, quantile)
    # NaN stays NaN, also where bounds are cut at zero.
    ratio = jnp.where(square > 0.0, jnp.maximum(trace, 0.0) / square, jnp.inf)
    is_known = jnp.isfinite(trace + square) & (0.0 < confidence) & (confidence < 1.0)
    ratio, lower, upper = (
        jnp.where(is_known, x, jnp.nan) for x in (ratio, lower, upper)
    )
    errors = jnp.sqrt(jnp.diagonal(covariance, axis1=-2, axis2=-1))
    back = unit**2
    return GradientNoiseScale(
        noise_scale=ratio,
        lower=lower,
        upper=upper,
        trace=back * trace,
        trace_standard_error=back * errors[..., 0],
        squared_gradient=back * square,
        squared_gradient_standard_error=back * errors[..., 1],
    )


@jax.jit
def _estimate(
    small: jax.Array,
    large: jax.Array,
    small_batch_size: jax.Array,
    large_batch_size: jax.Array,
    confidence: jax.Array,
) -> GradientNoiseScale:
    # Norms in units of the largest, so that no square overflows.
    unit = jnp.maximum(jnp.max(jnp.abs(small), -1), jnp.max(jnp.abs(large), -1))
    unit = jnp.where(unit > 0.0, unit, 1.0)
    is_right = (0.0 < small_batch_size) & (small_batch_size < large_batch_size)
    unit = jnp.where(is_right, unit, jnp.nan)
    small, large = (small / unit[..., None]) ** 2, (large / unit[..., None]) ** 2
    traces = (small - large) / (1.0 / small_batch_size - 1.0 / large_batch_size)
    squares = large_batch_size * large - small_batch_size * small
    squares = squares / (large_batch_size - small_batch_size)
    pairs = jnp.stack([traces, squares], axis=-1)
    means = jnp.mean(pairs, axis=-2)
    around = pairs - means[..., None, :]
    number = small.shape[-1]
    covariance = jnp.einsum("...ni,...nj->...ij", around, around)
    covariance = covariance / (number * (number - 1))
    return scale_of_moments(means, covariance, unit, confidence)


@on_auto_axes
def gradient_noise_scale(
    small_norms: npt.ArrayLike,
    large_norms: npt.ArrayLike,
    *,
    small_batch_size: Scalar,
    large_batch_size: Scalar,
    confidence: Scalar = 0.95,
    axis: int | None = -1,
) -> GradientNoiseScale:
    r"""Estimates the gradient noise scale, `tr(Sigma) / |G|^2`, from two batch sizes.

    G is the true gradient, and Sigma the covariance of the gradient of one example. With
    as many examples in a batch as the noise scale says, noise and gradient have the same
    squared norm. Smaller batches are mostly noise, and the noise of much larger ones
    hardly matters. From the squared norms of gradients of batches of B and b < B
    examples,

    .. math::
      |G|^2 \approx \frac{B |g_B|^2 - b |g_b|^2}{B - b}, \qquad
      \operatorname{tr} \Sigma \approx \frac{|g_b|^2 - |g_B|^2}{1/b - 1/B}.

    Both have the right expectation, and are averaged over the draws before the division.
    The interval is Fieller's: it is right, too, where the gradient is lost in the noise.
    It takes the pairs as independent, and needs some fifty.

    **Heavy tails.** If the tail index of the noise is below 4, the averages have no
    variance, so standard errors and interval are too small. If it is below 2, Sigma does
    not exist: the estimate grows with the draws, and means nothing. Ask `hill` of the
    norms first.

    The usual pairs: with m replicas of b examples each, `|g_b|^2` is the mean over the
    replicas of the squared norm before averaging, and `|g_B|^2` that of the average, with
    `B = m b`. From the gradients of single examples, b is 1.

    Args:
      small_norms: `|g_b|`, floating array of at least two norms along the axis. If there
        are several small batches to a large one, the root of their mean square.
      large_norms: `|g_B|`, an array of the same shape. Each pair is of one step.
      small_batch_size: b, positive, in examples.
      large_batch_size: B, larger than b.
      confidence: level of the interval, between 0 and 1.
      axis: the axis of the draws; None takes all axes together.

    Returns:
      A `GradientNoiseScale`. NaN if a norm is NaN or infinite, and if a number that is a
      JAX array is out of range.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the shapes differ, there are fewer than two norms, or a number is
        out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> noise = jax.random.normal(jax.random.key(0), (500, 8, 10))
      >>> gradients = 1.0 + 2.0 * noise  # 500 steps, eight replicas, ten parameters
      >>> norms = jnp.linalg.norm(gradients, axis=-1)
      >>> small = jnp.sqrt(jnp.mean(norms**2, axis=-1))
      >>> large = jnp.linalg.norm(jnp.mean(gradients, axis=1), axis=-1)
      >>> found = hto.tail_index.gradient_noise_scale(
      ...     small, large, small_batch_size=1, large_batch_size=8
      ... )
      >>> bool(found.lower < 4.0 < found.upper)  # true: 10 * 4 / 10
      True

    References:
      McCandlish et al., 2018 (arXiv 1812.06162), appendix A.1; Fieller, "Some problems
      in interval estimation", Journal of the Royal Statistical Society B 16 (1954).
    """
    small = check_samples(_NAME, small_norms, axis, argument="small_norms")
    large = check_samples(_NAME, large_norms, axis, argument="large_norms")
    if large.shape != small.shape:
        accepted = f"of the shape of `small_norms`, {small.shape}"
        raise value_error(_NAME, "large_norms", accepted, large)
    check_positive(_NAME, "small_batch_size", small_batch_size)
    check_positive(_NAME, "large_batch_size", large_batch_size)
    sizes = small_batch_size, large_batch_size
    are_known = not any(isinstance(size, jax.Array) for size in sizes)
    if are_known and not small_batch_size < large_batch_size:
        accepted = f"larger than `small_batch_size`, {small_batch_size}"
        raise value_error(_NAME, "large_batch_size", accepted, large_batch_size)
    check_confidence(_NAME, confidence)
    dtype = jnp.promote_types(small.dtype, large.dtype)
    numbers = (jnp.asarray(number, dtype) for number in (*sizes, confidence))
    return _estimate(small.astype(dtype), large.astype(dtype), *numbers)
