"""The Gaussian law: the light-tailed control."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from heavytail_optax._dtypes import computation_dtype, largest_finite, saturate
from heavytail_optax._random import (
    SIGNED_RESOLUTION_BITS,
    random_words,
    signed_uniform_from_words,
)
from heavytail_optax._typing import OutSharding
from heavytail_optax.tails._registration import register_tail
from heavytail_optax.tails._tail import sampling_arguments


def _upper_quantile(p: jax.Array, out_sharding: OutSharding) -> jax.Array:
    """The z with `P(Z > z) = p`, at full relative precision for small p."""

    def negated(p):
        return -jax.scipy.special.ndtri(p)

    if out_sharding is None:
        return negated(p)
    # `ndtri` of jax 0.10 ignores explicit sharding when it makes its constants.
    return jax.sharding.auto_axes(negated, out_sharding=out_sharding)(p)


@register_tail
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """The standard normal law; see `gaussian`."""

    @property
    def tail_index(self) -> float:
        return math.inf

    @property
    def right_tail_weight(self) -> float:
        return 0.5

    @property
    def is_centred(self) -> bool:
        return True

    def largest_draw(self, dtype: DTypeLike = jnp.float32) -> float:
        """The largest absolute value that `sample` can return in `dtype`."""
        smallest = 2.0 ** -(SIGNED_RESOLUTION_BITS + 1)
        extreme = -jax.scipy.special.ndtri(jnp.asarray(smallest, float))
        return min(float(extreme), largest_finite(dtype))

    def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
        """Draws a fair sign times the upper quantile of u/2, where u is uniform.

        `jax.random.normal` inverts the error function at a 23-bit uniform, so its tail
        ends at 5.4 standard deviations.
        """
        key, shape, dtype = sampling_arguments("gaussian.sample", key, shape, dtype)
        wide = computation_dtype(dtype)
        is_positive, uniform = signed_uniform_from_words(
            *random_words(key, shape, out_sharding), wide
        )
        size = _upper_quantile(0.5 * uniform, out_sharding)
        return saturate(jnp.where(is_positive, size, -size), dtype)

    def tail_probability(self, x: ArrayLike) -> jax.Array:
        """`P(|Z| > x) = erfc(x / sqrt(2))` for x >= 0, and 1 below."""
        x = jnp.maximum(jnp.asarray(x, float), 0.0)
        return jax.scipy.special.erfc(x / math.sqrt(2.0))

    def quantile(self, p: ArrayLike) -> jax.Array:
        """The z with `P(Z <= z) = p`, for p in [0, 1]."""
        return jax.scipy.special.ndtri(jnp.asarray(p, float))


def gaussian() -> Gaussian:
    r"""The standard normal law, the light-tailed control of every experiment.

    .. math:: P(|Z| > x) = \operatorname{erfc}(x / \sqrt 2).

    Returns:
      A tail with infinite tail index. Its largest draw is 9.1 standard deviations.

    Example:
      >>> import heavytail_optax as hto
      >>> print(f"{hto.tails.gaussian().tail_probability(1.96):.3f}")
      0.050
    """
    return Gaussian()
