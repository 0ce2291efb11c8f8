"""Products and convolutions in bfloat16 beside the same in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax.experiments.models.convolutions import (
    convolve_by_slices_in_bfloat16,
    convolve_natively,
    convolve_natively_in_bfloat16,
    multiply,
    rounded,
)

CASES = [
    # images (channels, height, width, n), kernel, padding
    ((1, 28, 28, 3), (5, 5, 1, 10), "VALID"),
    ((3, 7, 9, 1), (3, 2, 3, 4), "VALID"),
    ((3, 7, 9, 1), (3, 2, 3, 4), "SAME"),
    ((3, 32, 32, 2), (3, 3, 3, 16), "SAME"),
    ((64, 5, 4, 2), (3, 3, 64, 32), "SAME"),
    ((4, 1, 1, 3), (3, 3, 4, 2), "SAME"),
]

# A number rounded to 8 significant bits is off by at most 2^-8 of itself. So a product of
# two is off by at most 2^-7 + 2^-16 of itself, and a sum of products by that of the sum
# of their sizes. The sums in float32, of up to 1,536 terms, add less than 2^-13.
OF_A_SUM = 2**-7 + 2**-16 + 2**-13
OF_A_RESULT = 2**-8


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def value_and_gradients(function, cotangent, *arguments):
    """The value, and the gradients for a cotangent of it."""
    value, pull_back = jax.vjp(function, *arguments)
    return value, *pull_back(cotangent.astype(value.dtype))


def exactly(function, *arrays):
    """Value and gradients in float64, of the arrays and of their sizes."""
    with jax.enable_x64(True):
        arrays = [np.float64(array) for array in arrays]
        return (
            jax.device_get(value_and_gradients(function, *arrays)),
            jax.device_get(value_and_gradients(function, *map(np.abs, arrays))),
        )


def assert_rounded_once(found, exact, of_sizes, of_a_result=0.0):
    """Within the bound, and typically as far off as two rounded factors are."""
    for ours, theirs, size in zip(found, exact, of_sizes, strict=True):
        assert ours.dtype == np.float32
        error = np.abs(np.float64(ours) - theirs)
        bound = OF_A_SUM * size + of_a_result * np.abs(theirs)
        assert (error <= bound).all()
        # Of a factor the relative error is uniform up to 2^-8 at worst, 2^-9 at best.
        if ours.size > 100:
            ratio = np.sqrt(np.mean(error**2) / np.mean(theirs**2))
            assert 2**-9 * np.sqrt(2 / 3) < ratio < 2**-8


@pytest.mark.parametrize("by", ["slices", "natively"])
@pytest.mark.parametrize(("images_shape", "kernel_shape", "padding"), CASES)
def test_a_convolution_and_its_gradients(by, images_shape, kernel_shape, padding):
    images, kernel = normal(0, *images_shape), normal(1, *kernel_shape)
    in_bfloat16 = (
        convolve_by_slices_in_bfloat16
        if by == "slices"
        else convolve_natively_in_bfloat16
    )
    shape = jax.eval_shape(lambda *pair: in_bfloat16(*pair, padding), images, kernel)
    arrays = normal(2, *shape.shape), images, kernel
    found = value_and_gradients(lambda *pair: in_bfloat16(*pair, padding), *arrays)
    exact, of_sizes = exactly(lambda *pair: convolve_natively(*pair, padding), *arrays)
    of_a_result = OF_A_RESULT if by == "natively" else 0.0
    assert_rounded_once(found, exact, of_sizes, of_a_result)


@pytest.mark.parametrize(("m", "k", "n"), [(100, 512, 10), (3, 1, 2), (30, 7, 5)])
def test_a_product_and_its_gradients(m, k, n):
    arrays = normal(0, m, n), normal(1, m, k), normal(2, k, n)
    found = value_and_gradients(multiply, *arrays)
    assert_rounded_once(found, *exactly(jnp.matmul, *arrays))


@pytest.mark.parametrize("wrong", ["nothing is rounded", "rounded down"])
def test_the_check_refuses_what_is_not_rounded_once(wrong):
    def down(array):
        bits = jax.lax.bitcast_convert_type(array, jnp.uint32) >> 16 << 16
        return jax.lax.bitcast_convert_type(bits, jnp.float32)

    cotangent, left, right = normal(0, 100, 10), normal(1, 100, 512), normal(2, 512, 10)
    value, *gradients = value_and_gradients(multiply, cotangent, left, right)
    exact = exactly(jnp.matmul, cotangent, left, right)
    assert_rounded_once((value, *gradients), *exact)
    change = down if wrong == "rounded down" else jnp.asarray
    with pytest.raises(AssertionError):
        assert_rounded_once((change(left) @ change(right), *gradients), *exact)


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-45, -1e-39, 3.4e38, -3.4e38]


def test_numbers_are_rounded_as_numpy_rounds_them():
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, np.uint32)
    # Ties, with an even and an odd digit before them.
    bits[:1000] = (bits[:1000] & 0xFFFF0000) | 0x8000
    array = np.concatenate([bits.view(np.float32), np.float32(SPECIAL)])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = array.astype(jnp.bfloat16)
    found = np.asarray(jax.jit(rounded)(array))
    assert found.dtype == expected.dtype
    is_nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), is_nan)
    np.testing.assert_array_equal(
        found[~is_nan].view(np.uint16), expected[~is_nan].view(np.uint16)
    )


@pytest.mark.parametrize("place", ["images", "kernel"])
def test_a_number_that_is_not_finite_reaches_the_result(place):
    images, kernel = normal(0, 2, 4, 4, 3), normal(1, 3, 3, 2, 5)
    {"images": images, "kernel": kernel}[place][0, 0, 0, 0] = np.nan
    result = convolve_by_slices_in_bfloat16(images, kernel, "SAME")
    assert np.isnan(result).any()
