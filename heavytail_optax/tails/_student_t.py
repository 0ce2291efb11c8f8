"""Student's t: a polynomial tail with a bell-shaped body."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from heavytail_optax._dtypes import computation_dtype, largest_finite, saturate
from heavytail_optax._elementary import exp2, sin
from heavytail_optax._random import (
    RESOLUTION_BITS,
    exponential_from_words,
    random_words,
    uniform_from_words,
)
from heavytail_optax.tails._parameters import (
    positive_or_nan,
    positive_parameter,
    power_of_two,
)
from heavytail_optax.tails._registration import register_tail
from heavytail_optax.tails._tail import probability_beyond, sampling_arguments

_NODES = 512


def _tail_integral(x: jax.Array, df: jax.Array) -> jax.Array:
    """`P(|T| > x)` for positive x: a mean over the angle of Bailey's map.

    Given the angle, the radius exceeds `x / cos` with probability
    `(1 + x^2 / (df cos^2))^(-df/2)`. In `s = tan(angle) = e^w` the trapezoid rule
    converges exponentially. Nothing cancels, whereas the incomplete beta function
    suffers from cancellation for large df.
    """

    # Towards the left end the integrand vanishes as e^w, towards the right at least as
    # fast as e^-w.
    reach = -jnp.log(jnp.finfo(x.dtype).eps)
    w = jnp.linspace(-reach, reach, _NODES, dtype=x.dtype)
    step = 2.0 * reach / (_NODES - 1)

    spread = 1.0 + jnp.exp(2.0 * w)

    def at_one(x):
        # The logarithm of the ratio x^2 (1 + s^2) / df, because the ratio may overflow.
        # Below one, a large df would amplify its rounding. There, df log(1 + ratio) is
        # computed as x^2 (1 + s^2) times log(1 + ratio) / ratio.
        log_ratio = 2.0 * jnp.log(x) - jnp.log(df) + jnp.log(spread)
        smallest = jnp.log(jnp.finfo(x.dtype).eps)
        ratio = jnp.exp(jnp.clip(log_ratio, smallest, 0.0))
        # With a ratio below one, nothing exceeds 1e5.
        near = jnp.minimum(x, 1e5) ** 2 * spread * jnp.log1p(ratio) / ratio
        far = df * jnp.logaddexp(0.0, log_ratio)
        survival = jnp.exp(-0.5 * jnp.where(log_ratio < 0.0, near, far))
        return step / math.pi * jnp.sum(survival / jnp.cosh(w))

    flat = jax.lax.map(at_one, x.ravel(), batch_size=256)
    return flat.reshape(x.shape)


@register_tail
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

    def largest_draw(self, dtype: DTypeLike = jnp.float32) -> float:
        """The largest absolute value that `sample` can return in `dtype`."""
        df = float(self.df)
        body = -df * math.expm1(-2.0 * RESOLUTION_BITS * math.log(2.0) / df)
        extreme = math.sqrt(body) * power_of_two(RESOLUTION_BITS, df)
        return min(extreme, largest_finite(dtype))

    def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
        """Draws by Bailey's polar method, without rejection.

        `T = sqrt(df (u^(-2/df) - 1)) cos(2 pi v)`, computed with `E = -log u` as
        `exp(E/df) sqrt(-df expm1(-2 E/df)) cos(2 pi v)`. This forms neither the power
        nor the difference. So a small df does not overflow early, and a large df does
        not cancel.
        """
        key, shape, dtype = sampling_arguments("student_t.sample", key, shape, dtype)
        wide = computation_dtype(dtype)
        df = positive_or_nan(self.df, wide)
        radius_words = random_words(key, shape, out_sharding)
        exponential = exponential_from_words(*radius_words, wide)
        angle_words = random_words(key, shape, out_sharding, pair=1)
        turn = uniform_from_words(*angle_words, wide)
        radius = exp2(exponential * math.log2(math.e) / df) * jnp.sqrt(
            -df * jnp.expm1(-2.0 * exponential / df)
        )
        # cos(2 pi v), from a sine of at most a quarter turn.
        cosine = sin(2.0 * math.pi * (jnp.abs(turn - 0.5) - 0.25))
        return saturate(radius * cosine, dtype)

    def tail_probability(self, x: ArrayLike) -> jax.Array:
        """`P(|T| > x)` by quadrature, and 1 for x <= 0.

        The relative accuracy is 1e-5 in float32, down to probabilities of 1e-30, and
        1e-12 with 64-bit JAX, down to 1e-290, apart from the error of rounding x and
        df. Each x takes about 500 evaluations of the integrand.
        """
        x = jnp.asarray(x, float)
        df = positive_or_nan(self.df, x.dtype)
        return probability_beyond(x, lambda positive: _tail_integral(positive, df))


def student_t(df: ArrayLike) -> StudentT:
    r"""Student's t law with `df` degrees of freedom, tail index `df`.

    .. math:: P(|T| > x) = I_{df/(df + x^2)}(df/2, 1/2)
              \sim C\, x^{-df}, \qquad x \to \infty,

    where I is the regularised incomplete beta function.

    Args:
      df: degrees of freedom and tail index, positive; 1 is the Cauchy law. A scalar;
        may be traced.

    Returns:
      A tail. Its largest draw is `sqrt(df (2^(130 / df) - 1))`.

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
