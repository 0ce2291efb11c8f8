"""The samplers' own functions, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax._elementary import exp2, log2, negative_log, sin, sinc

EPSILON = {np.float32: 2.0**-23, np.float64: 2.0**-52}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def applied(function, dtype, *arguments):
    """The function in that dtype, and the arguments as it saw them."""
    arguments = [np.asarray(x, dtype) for x in arguments]
    with jax.enable_x64(dtype == np.float64):
        got = jax.jit(function)(*arguments)
    assert got.dtype == dtype
    return np.asarray(got, float), *(x.astype(float) for x in arguments)


@DTYPES
def test_log2(dtype):
    rng = np.random.default_rng(0)
    near_one = 1.0 + rng.choice([-1, 1], 4000) * 2.0 ** -rng.uniform(1, 23, 4000)
    x = np.concatenate([2.0 ** rng.uniform(-125, 127, 4000), near_one, [1.0, 2.0**-65]])
    got, x = applied(log2, dtype, x)
    np.testing.assert_allclose(got, np.log2(x), rtol=3 * EPSILON[dtype], atol=0)


@DTYPES
def test_negative_log(dtype):
    exponents = np.random.default_rng(1).uniform(0, 65, 4000)
    small = 2.0 ** -exponents[exponents > 1.0]
    complement = 1.0 - small
    # Close to zero, and close to one, where x rounds to one.
    got, x, _ = applied(negative_log, dtype, small, complement)
    np.testing.assert_allclose(got, -np.log(x), rtol=4 * EPSILON[dtype], atol=0)
    got, _, small = applied(negative_log, dtype, complement, small)
    expected = -np.log1p(-small)
    # Between 1/2 and 3/4 the logarithm of x itself, which was rounded.
    np.testing.assert_allclose(got, expected, rtol=8 * EPSILON[dtype], atol=0)


@DTYPES
def test_exp2(dtype):
    x = np.concatenate([np.linspace(-125, 127.99, 9999), np.arange(-125.0, 128.0)])
    got, x = applied(exp2, dtype, x)
    # In float64 that of XLA, which forms `exp(x log 2)`: the product's rounding enters.
    error = 3 * EPSILON[dtype] if dtype == np.float32 else 100 * EPSILON[dtype]
    np.testing.assert_allclose(got, np.exp2(x), rtol=error, atol=0)
    if dtype == np.float32:
        whole = x == np.round(x)
        np.testing.assert_array_equal(got[whole], np.exp2(x[whole]))


def test_exp2_beyond_its_range():
    x = jnp.asarray([-jnp.inf, -1e30, -127.0, 0.0, 128.0, 1e30, jnp.inf, jnp.nan])
    tiny = np.finfo(np.float32).tiny
    expected = [tiny, tiny, tiny, 1.0, np.inf, np.inf, np.inf, np.nan]
    np.testing.assert_array_equal(exp2(x), expected)


@DTYPES
def test_sine(dtype):
    magnitudes = np.concatenate([np.linspace(0, np.pi / 2, 999), np.logspace(-30, 0)])
    for signed in (magnitudes, -magnitudes):
        got, x = applied(sin, dtype, signed)
        np.testing.assert_allclose(got, np.sin(x), rtol=4 * EPSILON[dtype], atol=0)
        got, x = applied(sinc, dtype, signed)
        expected = np.sinc(x / np.pi)
        np.testing.assert_allclose(got, expected, rtol=4 * EPSILON[dtype], atol=0)


@pytest.mark.parametrize(
    "function, slope",
    [
        (log2, lambda x: 1 / (x * np.log(2))),
        (exp2, lambda x: np.log(2) * 2**x),
        (sin, np.cos),
    ],
)
def test_derivatives(function, slope):
    x = np.linspace(0.01, 1.5, 200, dtype=np.float32)
    got = jax.vmap(jax.grad(function))(x)
    np.testing.assert_allclose(got, slope(x.astype(float)), rtol=3e-6)
