import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax._dtypes import accumulation_dtype
from heavytail_optax._norm import norm_value, tree_norm

MAGNITUDES = (1e-37, 1e-30, 1e-20, 1e-10, 1.0, 1e5, 1e15, 1e19, 1e25, 1e30, 1e38)


@jax.jit
def scaled_norm(leaves):
    return tree_norm(leaves, [()] * len(leaves))


def norm_of(*leaves):
    """The norm, unscaled in extended precision since it may exceed its dtype."""
    result = scaled_norm([jnp.asarray(x) for x in leaves])
    assert result.num_infinite == 0.0
    return np.longdouble(result.scaled_norm) / np.longdouble(result.scale)


def exact_norm(*leaves):
    total = np.longdouble(0)
    for x in leaves:
        wide = np.abs(np.asarray(x).astype(np.complex128)).astype(np.longdouble)
        total += np.sum(wide**2)
    return np.sqrt(total)


def entries(size, magnitude, seed=0):
    rng = np.random.default_rng(seed)
    return magnitude * rng.choice([-1, 1], size) * rng.uniform(0.3, 1, size)


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_single_precision_at_every_magnitude(magnitude):
    x = entries(1000, magnitude).astype(np.float32)
    np.testing.assert_allclose(norm_of(x), exact_norm(x), rtol=2e-6)


@pytest.mark.parametrize("magnitude", [1e-7, 1e-3, 1.0, 300.0, 6e4])
def test_half_precision(magnitude):
    x = entries(1000, magnitude).astype(np.float16)
    np.testing.assert_allclose(norm_of(x), exact_norm(x), rtol=2e-6)


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_brain_floats(magnitude):
    x = jnp.asarray(entries(1000, magnitude), jnp.bfloat16)
    wide = np.asarray(x.astype(jnp.float32))
    np.testing.assert_allclose(norm_of(x), exact_norm(wide), rtol=2e-6)


@pytest.mark.parametrize(
    "magnitude", [1e-300, 1e-200, 1e-150, 1.0, 1e150, 1e200, 1e307]
)
def test_double_precision(magnitude):
    x = entries(1000, magnitude)
    with jax.enable_x64(True):
        got = norm_of(x)
    expected = np.sqrt(np.sum(x.astype(np.longdouble) ** 2))
    np.testing.assert_allclose(float(got / expected), 1.0, rtol=1e-14)


@pytest.mark.parametrize(
    "magnitudes",
    [
        (1e-30, 1.0, 1e30),
        (1e-30, 1e-24),
        (1e-16, 1e-14),
        (1e13, 1e15, 1.0),
        (1e-37, 0.0),
        (1e38, 1e-37),
    ],
)
def test_mixed_magnitudes_in_one_tree(magnitudes):
    leaves = [
        entries(100, magnitude, seed).astype(np.float32)
        for seed, magnitude in enumerate(magnitudes)
    ]
    np.testing.assert_allclose(norm_of(*leaves), exact_norm(*leaves), rtol=2e-6)
    # And in one leaf, interleaved.
    together = np.stack(leaves, 1)
    np.testing.assert_allclose(norm_of(together), exact_norm(together), rtol=2e-6)


def test_both_sides_of_every_threshold():
    powers = np.arange(-120, 128)
    x = 2.0 ** np.asarray(powers, np.float32)
    for below, above in itertools.pairwise(x):
        leaf = np.asarray([below, above, 0.0], np.float32)
        np.testing.assert_allclose(norm_of(leaf), exact_norm(leaf), rtol=1e-6)


@pytest.mark.parametrize("threshold", [2.0**48, 2.0**-48])
def test_many_entries_below_a_threshold_and_one_above(threshold):
    """The many are most of the norm; XLA must not merge the two scales of a square."""
    x = np.full(10**6, 0.9 * threshold, np.float32)
    x[0] = 1.1 * threshold
    np.testing.assert_allclose(norm_of(x), exact_norm(x), rtol=1e-5)


def test_mixed_dtypes():
    leaves = [
        entries(10, 6e4).astype(np.float16),
        entries((3, 4), 1e25).astype(np.float32),
        np.asarray(entries(5, 1e25) + 1j * entries(5, 1e26, 1), np.complex64),
    ]
    assert accumulation_dtype([jnp.asarray(x) for x in leaves]) == jnp.float32
    np.testing.assert_allclose(norm_of(*leaves), exact_norm(*leaves), rtol=1e-6)
    with jax.enable_x64(True):
        leaves.append(entries(3, 1e30))
        assert accumulation_dtype([jnp.asarray(x) for x in leaves]) == np.float64
        np.testing.assert_allclose(norm_of(*leaves), exact_norm(*leaves), rtol=1e-14)


@pytest.mark.parametrize("magnitude", [1e-25, 1.0, 1e30])
def test_a_million_entries(magnitude):
    x = np.full(10**6, magnitude, np.float32)
    np.testing.assert_allclose(norm_of(x), 1e3 * np.longdouble(x[0]), rtol=1e-5)


def test_zero_and_empty():
    assert norm_of(np.zeros(3, np.float32)) == 0.0
    assert norm_of(np.zeros((0,), np.float32)) == 0.0
    assert norm_of(np.zeros((0,), np.float32), np.asarray(3.0, np.float32)) == 3.0


def test_infinities_are_counted_and_nan_stays():
    x = jnp.asarray([jnp.inf, 3.0, -jnp.inf, 4.0])
    result = scaled_norm([x])
    assert result.num_infinite == 2.0
    assert norm_value(result) == np.finfo(np.float32).max
    for x in ([jnp.nan, 1.0], [jnp.nan, jnp.inf], [jnp.nan, 1e30], [jnp.nan, 1e-30]):
        result = scaled_norm([jnp.asarray(x)])
        assert np.isnan(result.scaled_norm)


def test_norm_value_is_at_most_the_largest_float():
    assert norm_value(scaled_norm([jnp.full((4,), 3e38)])) == np.finfo(np.float32).max
    np.testing.assert_allclose(norm_value(scaled_norm([jnp.full((4,), 1e38)])), 2e38)
    np.testing.assert_allclose(
        norm_value(scaled_norm([jnp.full((4,), 1e-30)])), 2e-30, rtol=1e-6
    )


def test_plain_sum_of_squares_is_not_enough():
    # Negative control: what `optax.global_norm` gives at both ends.
    for magnitude in (1e-25, 1e25):
        x = entries(1000, magnitude).astype(np.float32)
        plain = jnp.sqrt(jnp.sum(jnp.square(x)))
        assert not np.isclose(float(plain), float(exact_norm(x)), rtol=1e-2, atol=0)


@jax.jit
@jax.grad
def gradient_of_norm(x):
    result = tree_norm([x], [()])
    return result.scaled_norm / result.scale


@pytest.mark.parametrize("magnitude", [1e-30, 1e-12, 1.0, 1e12, 1e25])
def test_gradient_is_the_unit_vector(magnitude):
    x = entries(50, magnitude).astype(np.float32)
    expected = (x / exact_norm(x)).astype(float)
    np.testing.assert_allclose(gradient_of_norm(x), expected, atol=2e-6)


def test_gradient_at_zero_is_zero():
    assert np.all(gradient_of_norm(jnp.zeros(3)) == 0.0)


@functools.cache
def norm_of_leaves(num_devices):
    """One program for all magnitudes, traced where there are so many devices."""
    del num_devices
    return jax.jit(lambda x: tree_norm(x, [()] * len(x)))


@pytest.mark.parametrize("num_devices", [1, 8])
@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_many_small_leaves_and_a_large_one(monkeypatch, num_devices, magnitude):
    # Small arrays are joined where there is one device.
    monkeypatch.setattr(jax, "device_count", lambda: num_devices)
    rng = np.random.default_rng(1)
    leaves = [entries(n, magnitude, n).astype(np.float32) for n in range(1, 40)]
    leaves = [x.reshape(rng.permutation([1, x.size])) for x in leaves]
    leaves += [entries(20_000, magnitude).astype(np.float32)]
    leaves += [(entries(9, magnitude) * (1 + 2j)).astype(np.complex64)]
    result = norm_of_leaves(num_devices)(leaves)
    norm = np.longdouble(result.scaled_norm) / np.longdouble(result.scale)
    np.testing.assert_allclose(norm, exact_norm(*leaves), rtol=2e-6)


def test_small_leaves_are_joined_on_one_device_alone(monkeypatch):
    def joins(num_devices):
        monkeypatch.setattr(jax, "device_count", lambda: num_devices)
        leaves = [jnp.ones(3)] * 20
        jaxpr = jax.make_jaxpr(lambda x: tree_norm(x, [()] * 20))(leaves)
        return "f32[60] = concatenate" in str(jaxpr)

    assert joins(1)
    assert not joins(8)
