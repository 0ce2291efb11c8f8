"""The weights of tail inflation: sums, exactness at zero, laws of the balanced signs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import heavytail_optax as hto
from heavytail_optax._inflation_weights import balanced_signs

SIZES = {
    "independent": {"small": 5, "second_small": 3, "large": 11},
    "shared": {"small": 5, "large": 11},
    "balanced": {"small": 5, "key": 0},
}


WEIGHTS = {
    "independent": hto.independent_inflation_weights,
    "shared": hto.shared_inflation_weights,
    "balanced": hto.balanced_inflation_weights,
}


@pytest.mark.parametrize("scheme", SIZES)
@pytest.mark.parametrize("z", [0.0, 0.7, -3.0, 1e4])
def test_weights_sum_to_one(scheme, z):
    weights = WEIGHTS[scheme](z, **SIZES[scheme])
    tolerance = 4 * np.finfo(np.float32).eps * (1 + abs(z))
    assert abs(np.asarray(weights, np.float64).sum() - 1) < tolerance


@pytest.mark.parametrize("scheme", SIZES)
def test_weights_are_the_plain_mean_exactly_at_zero(scheme):
    weights = WEIGHTS[scheme](0.0, **SIZES[scheme])
    expected = np.zeros(weights.shape, np.float32)
    expected[:5] = np.float32(1) / np.float32(5)
    np.testing.assert_array_equal(weights, expected)


def test_independent_weights_use_each_batch_its_own_size():
    weights = hto.independent_inflation_weights(2.0, small=4, second_small=2, large=8)
    expected = [0.25] * 4 + [1.0] * 2 + [-0.25] * 8
    np.testing.assert_array_equal(weights, np.float32(expected))


def test_second_small_batch_has_the_size_of_the_first_by_default():
    weights = hto.independent_inflation_weights(2.0, small=4, large=8)
    assert weights.shape == (16,)


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
@example(40, 0)  # no padding
@example(39, 0)
def test_signs_sum_to_zero_and_their_squares_to_n(number, seed):
    mask = jnp.asarray(np.arange(40) < number, jnp.float32)  # one shape, one program
    signs = np.asarray(balanced_signs(jax.random.key(seed), mask), np.float64)
    assert abs(signs.sum()) < 1e-5 * number
    assert abs((signs**2).sum() - number) < 1e-5 * number
    assert np.all(signs[number:] == 0)
    assert np.sum(signs > 0) == number // 2


def test_even_signs_are_exactly_plus_and_minus_one():
    signs = balanced_signs(jax.random.key(1), jnp.ones(10))
    np.testing.assert_array_equal(np.sort(signs), np.repeat([-1.0, 1.0], 5))


def test_one_example_is_not_split():
    """It would not be inflated: an error, but where only a mask says so."""
    for small in (1, jnp.ones(1), np.ones(1, bool)):
        with pytest.raises(ValueError, match="at least 2 examples.*Got 1 instead"):
            hto.balanced_inflation_weights(5.0, small=small, key=0)
    for mask, expected in (([0, 1, 0], [0, 1, 0]), ([0, 0, 0], [0, 0, 0])):
        weights = hto.balanced_inflation_weights(5.0, small=jnp.asarray(mask), key=0)
        np.testing.assert_array_equal(weights, expected)
    # Two are enough, and the other schemes need no more than one.
    weights = hto.balanced_inflation_weights(5.0, small=2, key=0)
    np.testing.assert_array_equal(sorted(weights.tolist()), [-2.0, 3.0])
    weights = hto.shared_inflation_weights(5.0, small=1, large=1)
    np.testing.assert_array_equal(weights, [6.0, -5.0])


def test_split_is_a_function_of_the_key():
    def split(key):
        return hto.balanced_inflation_weights(1.0, small=20, key=key)

    np.testing.assert_array_equal(split(3), split(jax.random.key(3)))
    assert np.any(np.asarray(split(3)) != np.asarray(split(4)))


@pytest.mark.parametrize("scheme", SIZES)
def test_padding_counts_as_nothing(scheme):
    """Weights of a padded batch are those of the batch, and zero on the padding."""
    sizes = dict(SIZES[scheme])
    plain = WEIGHTS[scheme](0.8, **sizes)
    mask = jnp.arange(9) < 5
    padded = WEIGHTS[scheme](0.8, **(sizes | {"small": mask}))
    np.testing.assert_array_equal(padded[5:9], 0)
    if scheme == "balanced":  # another split, of the same sizes
        np.testing.assert_array_equal(np.sort(padded[:5]), np.sort(plain))
    else:
        np.testing.assert_allclose(padded[:5], plain[:5], rtol=1e-6)
    if scheme == "independent":
        np.testing.assert_allclose(padded[9:12], plain[5:8], rtol=1e-6)


def test_weights_are_traced_over_z_and_mask():
    def weights(z, mask):
        return hto.balanced_inflation_weights(z, small=mask, key=0)

    mask = jnp.arange(6) < 5
    np.testing.assert_allclose(
        jax.jit(weights)(0.3, mask), weights(0.3, mask), rtol=1e-6
    )


def test_float64_stays_float64():
    with jax.enable_x64(True):
        z = jnp.asarray(1e9, jnp.float64)
        weights = hto.shared_inflation_weights(z, small=4, large=4)
        assert weights.dtype == jnp.float64
        # In float32 the one in 1 + z would be lost.
        assert float(weights[0] * 4 - z) == 1.0


def test_group_factors_have_mean_one():
    factors = hto.group_inflation_factors(3.0, num_groups=7, key=2)
    assert factors.shape == (7,)
    np.testing.assert_allclose(np.mean(factors), 1, rtol=1e-6)


def _noise_moments(signs_of, draws=200_000):
    """Mean and covariance of sum_i s_i g_i / n over batches and splits, with errors.

    Batches of three of six examples without replacement, skewed gradients in the plane.
    """
    gradients = jnp.asarray(
        [[1.0, 0.0], [2.0, 1.0], [4.0, -1.0], [8.0, 3.0], [0.5, 2.0], [3.0, 9.0]]
    )

    def noise(key):
        batch_key, sign_key = jax.random.split(key)
        batch = jax.random.permutation(batch_key, gradients, axis=0)[:3]
        return signs_of(sign_key) @ batch / 3

    keys = jax.random.split(jax.random.key(11), draws)
    samples = np.asarray(jax.jit(jax.vmap(noise))(keys), np.float64)
    products = np.einsum("ni,nj->nij", samples, samples)
    root = np.sqrt(draws)
    exact = np.cov(np.asarray(gradients, np.float64).T) / 3  # S^2 / n, divisor N - 1
    z_mean = samples.mean(0) / (samples.std(0) / root)
    z_second = (products.mean(0) - exact) / (products.std(0) / root)
    return np.abs(z_mean).max(), np.abs(z_second).max()


# Six scores are looked at, so that one beyond 4.5 is a false alarm of 4e-5.
_BOUND = 4.5


def test_balanced_noise_has_mean_zero_and_the_covariance_of_the_batch_gradient():
    """Odd batches included: n = 3, drawn without replacement from N = 6."""
    z_mean, z_second = _noise_moments(lambda key: balanced_signs(key, jnp.ones(3)))
    assert z_mean < _BOUND
    assert z_second < _BOUND


def test_plain_signs_of_an_odd_batch_fail_the_same_check():
    """Negative control: +-1 on halves of 1 and 2 is biased by grad f / 3."""
    z_mean, _ = _noise_moments(
        lambda key: jax.random.permutation(key, jnp.asarray([1.0, -1.0, -1.0]))
    )
    assert z_mean > 10 * _BOUND


def test_independent_random_signs_fail_the_same_check():
    """Negative control: their covariance has grad f grad f^T / n on top."""
    z_mean, z_second = _noise_moments(
        lambda key: jax.random.rademacher(key, (3,), jnp.float32)
    )
    assert z_mean < _BOUND
    assert z_second > 10 * _BOUND
