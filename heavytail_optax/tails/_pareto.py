"""Pareto laws: one-signed, shifted to start at zero (Lomax), and symmetric."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from heavytail_optax._dtypes import computation_dtype, largest_finite, saturate
from heavytail_optax._elementary import exp2, log2
from heavytail_optax._random import (
    RESOLUTION_BITS,
    SIGNED_RESOLUTION_BITS,
    random_words,
    signed_uniform_from_words,
    uniform_from_words,
)
from heavytail_optax._typing import OutSharding
from heavytail_optax.tails._parameters import (
    positive_or_nan,
    positive_parameter,
    power_of_two,
)
from heavytail_optax.tails._registration import register_tail
from heavytail_optax.tails._tail import sampling_arguments


def _log_quantile(alpha: ArrayLike, p: jax.Array) -> jax.Array:
    """`log (1 - p)^(-1/alpha)` without forming `1 - p`; NaN outside [0, 1]."""
    p = jnp.where(p >= 0.0, p, jnp.nan)
    return -jnp.log1p(-p) / positive_or_nan(alpha, p.dtype)


def _size(alpha: ArrayLike, survival: jax.Array) -> jax.Array:
    """The w with `P(W > w) = survival`, where W is Pareto."""
    return exp2(log2(survival) * (-1.0 / positive_or_nan(alpha, survival.dtype)))


def _draw_survival(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike, sharding: OutSharding
) -> jax.Array:
    """Uniforms in (0, 1], in the computation dtype."""
    words = random_words(key, shape, sharding)
    return uniform_from_words(*words, computation_dtype(dtype))


@register_tail
@dataclasses.dataclass(frozen=True)
class Pareto:
    """The law of W; see `pareto`."""

    alpha: ArrayLike

    @property
    def tail_index(self) -> ArrayLike:
        return self.alpha

    @property
    def right_tail_weight(self) -> float:
        return 1.0

    @property
    def is_centred(self) -> bool:
        return False

    def largest_draw(self, dtype: DTypeLike = jnp.float32) -> float:
        """The largest value that `sample` can return in `dtype`."""
        return min(power_of_two(RESOLUTION_BITS, self.alpha), largest_finite(dtype))

    def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
        """Draws `W = u^(-1/alpha)` as `exp2(-log2(u) / alpha)`, where u is uniform."""
        key, shape, dtype = sampling_arguments("pareto.sample", key, shape, dtype)
        survival = _draw_survival(key, shape, dtype, out_sharding)
        return saturate(_size(self.alpha, survival), dtype)

    def tail_probability(self, x: ArrayLike) -> jax.Array:
        """`P(W > x) = x^-alpha` for x >= 1, and 1 below."""
        x = jnp.maximum(jnp.asarray(x, float), 1.0)
        return jnp.exp(-positive_or_nan(self.alpha, x.dtype) * jnp.log(x))

    def quantile(self, p: ArrayLike) -> jax.Array:
        """The w with `P(W <= w) = p`, for p in [0, 1]."""
        return jnp.exp(_log_quantile(self.alpha, jnp.asarray(p, float)))


@register_tail
@dataclasses.dataclass(frozen=True)
class Lomax:
    """The law of W - 1; see `lomax`."""

    alpha: ArrayLike

    @property
    def tail_index(self) -> ArrayLike:
        return self.alpha

    @property
    def right_tail_weight(self) -> float:
        return 1.0

    @property
    def is_centred(self) -> bool:
        return False

    def largest_draw(self, dtype: DTypeLike = jnp.float32) -> float:
        """The largest value that `sample` can return in `dtype`."""
        return Pareto(self.alpha).largest_draw(dtype)

    def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
        """Draws `Z = expm1(E / alpha)`, where E is a standard exponential."""
        key, shape, dtype = sampling_arguments("lomax.sample", key, shape, dtype)
        survival = _draw_survival(key, shape, dtype, out_sharding)
        alpha = positive_or_nan(self.alpha, survival.dtype)
        return saturate(jnp.expm1(-jnp.log(survival) / alpha), dtype)

    def tail_probability(self, x: ArrayLike) -> jax.Array:
        """`P(Z > x) = (1 + x)^-alpha` for x >= 0, and 1 below."""
        x = jnp.maximum(jnp.asarray(x, float), 0.0)
        return jnp.exp(-positive_or_nan(self.alpha, x.dtype) * jnp.log1p(x))

    def quantile(self, p: ArrayLike) -> jax.Array:
        """The z with `P(Z <= z) = p`, for p in [0, 1]."""
        return jnp.expm1(_log_quantile(self.alpha, jnp.asarray(p, float)))


@register_tail
@dataclasses.dataclass(frozen=True)
class SymmetricPareto:
    """The law of a fair sign times W; see `symmetric_pareto`."""

    alpha: ArrayLike

    @property
    def tail_index(self) -> ArrayLike:
        return self.alpha

    @property
    def right_tail_weight(self) -> float:
        return 0.5

    @property
    def is_centred(self) -> bool:
        return True

    def largest_draw(self, dtype: DTypeLike = jnp.float32) -> float:
        """The largest absolute value that `sample` can return in `dtype`."""
        return min(
            power_of_two(SIGNED_RESOLUTION_BITS, self.alpha), largest_finite(dtype)
        )

    def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
        """Draws `+-u^(-1/alpha)`, where u is uniform and one bit gives the sign."""
        key, shape, dtype = sampling_arguments(
            "symmetric_pareto.sample", key, shape, dtype
        )
        wide = computation_dtype(dtype)
        is_positive, uniform = signed_uniform_from_words(
            *random_words(key, shape, out_sharding), wide
        )
        size = _size(self.alpha, uniform)
        return saturate(jnp.where(is_positive, size, -size), dtype)

    def tail_probability(self, x: ArrayLike) -> jax.Array:
        """`P(|Z| > x) = x^-alpha` for x >= 1, and 1 below."""
        return Pareto(self.alpha).tail_probability(x)

    def quantile(self, p: ArrayLike) -> jax.Array:
        """The z with `P(Z <= z) = p`, for p in [0, 1]; -1 at the median."""
        p = jnp.asarray(p, float)
        is_right = p > 0.5
        # Exact, however close p is to 0.
        two_sided = 2.0 * jnp.where(is_right, 1.0 - p, p)
        size = jnp.exp(-jnp.log(two_sided) / positive_or_nan(self.alpha, p.dtype))
        return jnp.where(is_right, size, -size)


def pareto(alpha: ArrayLike) -> Pareto:
    r"""The Pareto law on [1, inf): the W that inflates gradient noise.

    .. math:: P(W > w) = w^{-\alpha}, \qquad w \ge 1.

    It is one-signed, so `add_heavy_tailed_noise` refuses it. Use it with
    `inflate_gradient_noise` and `tail_inflated_grad`.

    Args:
      alpha: tail index, positive. The mean is `alpha / (alpha - 1)` for alpha > 1 and
        infinite otherwise. A scalar; may be traced.

    Returns:
      A tail. Its largest draw is `2^(65 / alpha)`: 9.4e13 at alpha 1.4.

    Raises:
      TypeError: if `alpha` is not a real number.
      ValueError: if `alpha` is not positive and finite.

    Example:
      >>> import heavytail_optax as hto
      >>> tail = hto.tails.pareto(1.4)
      >>> print(tail)
      Pareto(alpha=1.4)
      >>> print(f"{tail.tail_probability(100.0):.5f}")
      0.00158

    References:
      Arnold, *Pareto Distributions*, 2nd ed., CRC Press 2015, section 1.2.
    """
    return Pareto(positive_parameter("pareto", "alpha", alpha))


def lomax(alpha: ArrayLike) -> Lomax:
    r"""The Lomax law (Pareto II) on [0, inf): a Pareto law shifted to start at zero.

    .. math:: P(Z > x) = (1 + x)^{-\alpha}, \qquad x \ge 0.

    It has the same tail as `pareto`, but another body: for alpha = 1.4 the median is
    0.64, and that of `pareto` is 1.64. It is one-signed.

    Args:
      alpha: tail index, positive. A scalar; may be traced.

    Returns:
      A tail. Its largest draw is `2^(65 / alpha) - 1`.

    Raises:
      TypeError: if `alpha` is not a real number.
      ValueError: if `alpha` is not positive and finite.

    Example:
      >>> import heavytail_optax as hto
      >>> print(f"{hto.tails.lomax(1.4).quantile(0.5):.2f}")
      0.64

    References:
      Lomax, "Business failures: another example of the analysis of failure data",
      JASA 49 (1954).
    """
    return Lomax(positive_parameter("lomax", "alpha", alpha))


def symmetric_pareto(alpha: ArrayLike) -> SymmetricPareto:
    r"""A fair sign times Pareto: the simplest centred law with a given tail index.

    .. math:: P(|Z| > x) = x^{-\alpha}, \qquad x \ge 1, \qquad -Z \sim Z.

    Args:
      alpha: tail index, positive. The variance is infinite for alpha <= 2, and there
        is no mean for alpha <= 1. A scalar; may be traced.

    Returns:
      A tail. Its largest draw is `2^(64 / alpha)`: 5.8e13 at alpha 1.4.

    Raises:
      TypeError: if `alpha` is not a real number.
      ValueError: if `alpha` is not positive and finite.

    Example:
      >>> import heavytail_optax as hto
      >>> tail = hto.tails.symmetric_pareto(1.4)
      >>> tail.sample(0, (3,)).shape
      (3,)
      >>> tail.right_tail_weight
      0.5

    References:
      Wang, Oh, Rhee, "Eliminating sharp minima from SGD with truncated heavy-tailed
      noise", ICLR 2022: the regularly varying noise of its assumptions.
    """
    return SymmetricPareto(positive_parameter("symmetric_pareto", "alpha", alpha))
