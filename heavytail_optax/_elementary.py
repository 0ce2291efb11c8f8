"""`log2`, `exp2` and `sin` for the samplers: float32 polynomials without special cases.

A sampler knows the range of its arguments. These functions therefore skip the handling
of zeros, infinities and denormals, which XLA's own functions include. The polynomials
are minimax polynomials with a relative error below 3e-8: half a unit in the last place.
Other dtypes use JAX's functions.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

_LN2 = 0.6931471805599453

# log2(1 + f) / f on [sqrt(1/2) - 1, sqrt(2) - 1], lowest power first.
_LOG2 = (
    1.4426950036524153,
    -0.7213473468032464,
    0.4809106429454224,
    -0.3607036828016455,
    0.2879162480738867,
    -0.23894482176749365,
    0.21571560686136587,
    -0.20726974321489872,
    0.12583701287087468,
)
# (2^f - 1) / f on [0, 1].
_EXP2 = (
    0.6931470444432701,
    0.24022930555283134,
    0.055485280616361043,
    0.009675451570875349,
    0.0012467846414147,
    0.0002161291505244911,
)
# sin(x) / x in x^2, x on [0, pi/2].
_SINC = (
    0.9999999946860059,
    -0.16666656684002923,
    0.008333025138871014,
    -0.00019807418720305144,
    2.6019030517629655e-06,
)
_SQRT_HALF_BITS = 0x3F3504F3
_MANTISSA_BITS = 23


def _polynomial(x: jax.Array, coefficients: Sequence[float]) -> jax.Array:
    value = jnp.asarray(coefficients[-1], x.dtype)
    for coefficient in coefficients[-2::-1]:
        value = value * x + jnp.asarray(coefficient, x.dtype)
    return value


def _split(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`e` and `f` with `x = 2^e (1 + f)`, f between sqrt(1/2) - 1 and sqrt(2) - 1."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    exponent = (bits - jnp.int32(_SQRT_HALF_BITS)) >> jnp.int32(_MANTISSA_BITS)
    significand = jax.lax.bitcast_convert_type(
        bits - (exponent << jnp.int32(_MANTISSA_BITS)), jnp.float32
    )
    return exponent.astype(jnp.float32), significand - jnp.float32(1.0)


@jax.custom_jvp
def _log2_single(x: jax.Array) -> jax.Array:
    exponent, f = _split(x)
    return exponent + f * _polynomial(f, _LOG2)


@_log2_single.defjvp
def _log2_single_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return _log2_single(x), tangent / (x * jnp.float32(_LN2))


def log2(x: jax.Array) -> jax.Array:
    """Binary logarithm of positive normal numbers, at full relative precision."""
    return _log2_single(x) if x.dtype == jnp.float32 else jnp.log2(x)


def negative_log(x: jax.Array, complement: jax.Array) -> jax.Array:
    """`-log x` at full relative precision, for positive x; `complement` is `1 - x`.

    From x = 3/4 on, the logarithm is computed from the complement: close to one, the
    distance to one is more precise than x.
    """
    is_near_one = x > 0.75
    if x.dtype != jnp.float32:
        half = jnp.asarray(0.5, x.dtype)
        return jnp.where(
            is_near_one,
            -jnp.log1p(-jnp.where(is_near_one, complement, half)),
            -jnp.log(jnp.where(is_near_one, half, x)),
        )
    exponent, f = _split(x)
    exponent = jnp.where(is_near_one, jnp.float32(0.0), exponent)
    f = jnp.where(is_near_one, -complement, f)
    return jnp.float32(-_LN2) * (exponent + f * _polynomial(f, _LOG2))


def exp2(x: jax.Array) -> jax.Array:
    """`2^x`. In float32 it is infinite from x = 128 on, and 2^-126 for x below -126.

    NaN stays NaN.
    """
    if x.dtype != jnp.float32:
        return jnp.exp2(x)
    x = jnp.clip(x, jnp.float32(-126.0), jnp.float32(128.0))
    floor = jnp.floor(x)
    fraction = x - floor
    power = jax.lax.bitcast_convert_type(
        (floor.astype(jnp.int32) + jnp.int32(127)) << jnp.int32(_MANTISSA_BITS),
        jnp.float32,
    )
    one = jnp.float32(1.0)
    return (one + fraction * _polynomial(fraction, _EXP2)) * power


def sinc(x: jax.Array) -> jax.Array:
    """`sin(x) / x` for x in [-pi/2, pi/2], one at zero; with an exact derivative."""
    if x.dtype == jnp.float32:
        return _polynomial(x * x, _SINC)
    is_small = jnp.abs(x) < 0.01
    safe = jnp.where(is_small, 1.0, x)
    return jnp.where(
        is_small, 1.0 - x**2 / 6.0 * (1.0 - x**2 / 20.0), jnp.sin(safe) / safe
    )


def sin(x: jax.Array) -> jax.Array:
    """`sin(x)` for x in [-pi/2, pi/2], at full relative precision."""
    return x * sinc(x)
