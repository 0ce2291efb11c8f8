"""Student's t: a polynomial tail with a bell-shaped body."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from heavytail_optax._finite import largest_finite, saturate
from heavytail_optax._random_bits import random_words
from heavytail_optax._uniform import (
    RESOLUTION_BITS,
    computation_dtype,
    exponential_from_words,
    uniform_from_words,
)
from heavytail_optax.tails._parameters import (
    positive_or_nan,
    positive_parameter,
    power_of_two,
)
from heavytail_optax.tails._tail import sampling_arguments


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StudentT:
    """Student's t law; see `student_t`."""

    df: ArrayLike

    @property
    def tail_index(self) -> ArrayLike:
        return self.df

    @property
    def right_tail_weight(self) -> float:
        return 0.5

    @property
    def is_centred(self) -> bool:
        return True

    def largest_draw(self, dtype: Any = jnp.float32) -> float:
        """The largest absolute value that `sample` can return in `dtype`."""
        extreme = math.sqrt(float(self.df)) * power_of_two(RESOLUTION_BITS, self.df)
        return min(extreme, largest_finite(dtype))

    def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
        """Draws by Bailey's polar method, without rejection.

        `T = sqrt(df (u^(-2/df) - 1)) cos(2 pi v)`, here with `E = -log u`
        as `exp(E/df) sqrt(-df expm1(-2 E/df)) cos(2 pi v)`: neither the power nor
        the difference is formed, so small df does not overflow early, nor does large
        df cancel.
        """
        key, shape, dtype = sampling_arguments("student_t.sample", key, shape, dtype)
        wide = computation_dtype(dtype)
        df = positive_or_nan(self.df, wide)
        radius_key, angle_key = jax.random.split(key)
        exponential = exponential_from_words(
            *random_words(radius_key, shape, out_sharding), wide
        )
        turn = uniform_from_words(*random_words(angle_key, shape, out_sharding), wide)
        radius = jnp.exp(exponential / df) * jnp.sqrt(
            -df * jnp.expm1(-2.0 * exponential / df)
        )
        return saturate(radius * jnp.cos(2.0 * math.pi * turn), dtype)

    def tail_probability(self, x: ArrayLike) -> jax.Array:
        """`P(|T| > x) = I_{df/(df + x^2)}(df/2, 1/2)`, and 1 for x <= 0."""
        x = jnp.maximum(jnp.asarray(x, float), 0.0)
        df = positive_or_nan(self.df, x.dtype)
        # df / (df + x^2) with x^2 replaced by its inverse where it might overflow.
        ratio = jnp.sqrt(df) / jnp.maximum(x, 1.0)
        far = ratio**2 / (1.0 + ratio**2)
        near = df / (df + jnp.minimum(x, 1.0) ** 2)
        return jax.scipy.special.betainc(
            0.5 * df, jnp.full_like(df, 0.5), jnp.where(x > 1.0, far, near)
        )


def student_t(df: ArrayLike) -> StudentT:
    r"""Student's t law with `df` degrees of freedom, tail index `df`.

    .. math:: P(|T| > x) = I_{df/(df + x^2)}(df/2, 1/2)
              \sim C\, x^{-df}, \qquad x \to \infty.

    Args:
      df: degrees of freedom and tail index, positive; 1 is the Cauchy law. A scalar;
        may be traced.

    Returns:
      A tail. Its largest draw is `sqrt(df) 2^(65 / df)`.

    Raises:
      TypeError: if `df` is not a real number.
      ValueError: if `df` is not positive and finite.

    Example:
      >>> import heavytail_optax as hto
      >>> print(f"{hto.tails.student_t(3.0).tail_probability(3.182):.3f}")
      0.050

    References:
      Bailey, "Polar generation of random variates with the t-distribution",
      Math. Comp. 62 (1994).
    """
    return StudentT(positive_parameter("student_t", "df", df))
