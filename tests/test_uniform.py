import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from statistical_checks import (
    FALSE_ALARM_RATE,
    bonferroni,
    counts_p_value,
    independence_p_value,
    law_p_value,
)

from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._random import (
    RESOLUTION_BITS,
    SIGNED_RESOLUTION_BITS,
    exponential_from_words,
    random_words,
    signed_uniform_from_words,
    uniform_from_words,
)

TOP = 2**32 - 1
EPSILON = np.finfo(np.float32).eps


def words_of_all_sizes():
    """Words with every leading-zero count in both places, and the extremes."""
    rng = np.random.default_rng(0)
    high = rng.integers(2**32, size=4096, dtype=np.uint64)
    low = rng.integers(2**32, size=4096, dtype=np.uint64)
    shifts = rng.integers(33, size=(2, 4096), dtype=np.uint64)
    flip = rng.integers(2, size=4096, dtype=np.uint64) * np.uint64(TOP)
    # Half of them close to one instead of to zero.
    high, low = (high >> shifts[0]) ^ flip, (low >> shifts[1]) ^ flip
    extremes = np.asarray([0, 1, 2**31 - 1, 2**31, TOP - 1, TOP], np.uint64)
    pairs = np.stack(np.meshgrid(extremes, extremes), -1).reshape(-1, 2)
    high = np.concatenate([high, pairs[:, 0]])
    low = np.concatenate([low, pairs[:, 1]])
    return high, low


def exact_uniform(high, low):
    """`u` and `1 - u`, each to the relative precision of float64."""
    high, low = high.astype(np.float64), low.astype(np.float64)
    u = high * 2.0**-32 + (low + 0.5) * 2.0**-64
    complement = (TOP - high) * 2.0**-32 + (TOP - low + 0.5) * 2.0**-64
    return u, complement


def exact_exponential(high, low):
    u, complement = exact_uniform(high, low)
    return np.where(u < 0.5, -np.log(u), -np.log1p(-np.minimum(complement, 0.5)))


def test_uniform_keeps_its_relative_precision():
    high, low = words_of_all_sizes()
    u = uniform_from_words(jnp.uint32(high), jnp.uint32(low), jnp.float32)
    expected, _ = exact_uniform(high, low)
    assert u.dtype == jnp.float32
    np.testing.assert_allclose(u, expected, rtol=2 * EPSILON, atol=0)
    assert np.min(u) == 2.0**-RESOLUTION_BITS
    assert np.max(u) == 1.0


def test_signed_uniform_keeps_its_relative_precision():
    high, low = words_of_all_sizes()
    is_positive, u = signed_uniform_from_words(
        jnp.uint32(high), jnp.uint32(low), jnp.float32
    )
    fine = (low >> np.uint64(1)).astype(float) + 0.5
    expected = high.astype(float) * 2.0**-32 + fine * 2.0**-63
    np.testing.assert_array_equal(is_positive, low % 2 == 1)
    np.testing.assert_allclose(u, expected, rtol=2 * EPSILON, atol=0)
    assert np.min(u) == 2.0**-SIGNED_RESOLUTION_BITS
    assert np.max(u) == 1.0


def test_exponential_is_precise_at_both_ends():
    high, low = words_of_all_sizes()
    got = exponential_from_words(jnp.uint32(high), jnp.uint32(low), jnp.float32)
    expected = exact_exponential(high, low)
    np.testing.assert_allclose(got, expected, rtol=8 * EPSILON, atol=0)
    np.testing.assert_allclose(np.min(got), 2.0**-RESOLUTION_BITS, rtol=EPSILON)
    np.testing.assert_allclose(np.max(got), RESOLUTION_BITS * np.log(2), rtol=EPSILON)
    # Negative control: the logarithm alone cannot resolve the small ones.
    plain = -jnp.log(uniform_from_words(jnp.uint32(high), jnp.uint32(low), jnp.float32))
    assert np.max(np.abs(plain / expected - 1.0)) > 0.5


def test_exponential_in_64_bits():
    high, low = words_of_all_sizes()
    with jax.enable_x64(True):
        got = exponential_from_words(jnp.uint32(high), jnp.uint32(low), jnp.float64)
    assert got.dtype == np.float64
    expected = exact_exponential(high, low)
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=0)


def test_draw_in_single_precision_at_least():
    assert computation_dtype(jnp.float16) == jnp.float32
    assert computation_dtype(ml_dtypes.bfloat16) == jnp.float32
    assert computation_dtype(jnp.float32) == jnp.float32
    assert computation_dtype(np.float64) == np.float64


LEVELS = 2.0 ** -np.arange(1, 15)


def levels_p_value(u):
    """How well the shares of uniforms below powers of two agree with them."""
    counts = [np.count_nonzero(u <= level) for level in LEVELS]
    return counts_p_value(counts, u.size, LEVELS)


def test_law_of_the_uniform_and_of_the_exponential():
    words = random_words(jax.random.key(21), (10**6,))
    is_positive, signed = signed_uniform_from_words(*words, jnp.float32)
    unsigned = uniform_from_words(*words, jnp.float32)
    exponential = exponential_from_words(*words, jnp.float32)
    signed, unsigned = np.asarray(signed), np.asarray(unsigned)
    p_values = [
        law_p_value(unsigned, lambda u: u),
        law_p_value(signed, lambda u: u),
        law_p_value(exponential, lambda x: -np.expm1(-x)),
        levels_p_value(unsigned),
        levels_p_value(signed),
        counts_p_value(np.count_nonzero(is_positive), 10**6, 0.5),
        independence_p_value(0.5 * np.asarray(is_positive) + 0.25, signed, 2),
    ]
    assert bonferroni(p_values) > FALSE_ALARM_RATE


@pytest.mark.parametrize("num_zeros", [32, 44])
def test_law_given_leading_zeros(num_zeros):
    """Far out: the uniforms below `2^-num_zeros`, which a plain test never sees."""
    low = random_words(jax.random.key(22), (10**6,))[1] >> jnp.uint32(num_zeros - 32)
    zeros = jnp.zeros_like(low)
    unsigned = uniform_from_words(zeros, low, jnp.float32)
    signed = signed_uniform_from_words(zeros, low, jnp.float32)[1]
    p_values = [
        law_p_value(np.asarray(u, float) * 2.0**num_zeros, lambda v: v)
        for u in (unsigned, signed)
    ]
    assert bonferroni(p_values) > FALSE_ALARM_RATE


def test_coarse_uniforms_are_found():
    # Negative control: what 23 bits leave of the uniforms below 2^-18.
    five_bits = jax.random.bits(jax.random.key(23), (10**6,)) >> jnp.uint32(27)
    u = (np.asarray(five_bits, float) + 0.5) / 2**5
    assert law_p_value(u, lambda v: v) < FALSE_ALARM_RATE
