"""The gradient noise scale: against NumPy, with the right expectation and coverage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from statistical_checks import FALSE_ALARM_RATE

import heavytail_optax as hto

B, LARGE = 4, 32
GRADIENT = np.linspace(-1.0, 2.0, 10)
SPREAD = np.linspace(1.0, 6.0, 10)
TRACE, SQUARE = float(np.sum(SPREAD**2)), float(np.sum(GRADIENT**2))


def norms(seed, samples, pairs, gradient=GRADIENT):
    """Norms of mean gradients: of B examples, and of LARGE that hold these."""
    draws = np.random.default_rng(seed)
    shape = samples, pairs, gradient.size
    small = SPREAD * draws.standard_normal(shape) / B**0.5
    rest = SPREAD * draws.standard_normal(shape) / (LARGE - B) ** 0.5
    large = (B * small + (LARGE - B) * rest) / LARGE
    return tuple(np.linalg.norm(gradient + noise, axis=-1) for noise in (small, large))


def estimate(small, large, **more):
    return hto.tail_index.gradient_noise_scale(
        small, large, small_batch_size=B, large_batch_size=LARGE, **more
    )


def test_against_numpy():
    small, large = norms(0, 3, 200)
    trace = (small**2 - large**2) / (1 / B - 1 / LARGE)
    square = (LARGE * large**2 - B * small**2) / (LARGE - B)
    found = estimate(small, large)
    for got, error, values in (
        (found.trace, found.trace_standard_error, trace),
        (found.squared_gradient, found.squared_gradient_standard_error, square),
    ):
        np.testing.assert_allclose(got, values.mean(-1), rtol=1e-5)
        expected = scipy.stats.sem(values, axis=-1)
        np.testing.assert_allclose(error, expected, rtol=1e-4)
    ratio = trace.mean(-1) / square.mean(-1)
    np.testing.assert_allclose(found.noise_scale, ratio, rtol=1e-5)
    # Fieller: at the bounds, the numerator less the bound times the denominator is just
    # as many standard errors from zero as the level says.
    for bound in (found.lower, found.upper):
        rest = trace - np.asarray(bound)[:, None] * square
        distance = abs(rest.mean(-1)) / scipy.stats.sem(rest, axis=-1)
        np.testing.assert_allclose(distance, scipy.stats.norm.ppf(0.975), rtol=1e-3)


def test_both_estimates_have_the_right_expectation():
    """Five standard errors: two false alarms in a million."""
    found = estimate(*norms(1, 4000, 2))
    for values, true in ((found.trace, TRACE), (found.squared_gradient, SQUARE)):
        values = np.asarray(values, float)
        assert abs(values.mean() - true) < 5 * scipy.stats.sem(values)
    # The plain squared norm of the large batch is no estimate without bias.
    plain = norms(1, 4000, 2)[1].ravel() ** 2
    assert plain.mean() - SQUARE > 5 * scipy.stats.sem(plain)


def coverage_p_value(held, level):
    return scipy.stats.binomtest(int(held.sum()), held.size, level).pvalue


@pytest.mark.parametrize("size", [1.0, 0.3])
def test_the_interval_holds_the_true_value(size):
    """Also where the gradient is hardly told from zero, and the bound may be infinite."""
    small, large = norms(2, 1500, 200, size * GRADIENT)
    found = estimate(small, large)
    low, high = found.lower, found.upper
    true = TRACE / (size**2 * SQUARE)
    held = np.asarray((low <= true) & (true <= high))
    assert coverage_p_value(held, 0.95) > FALSE_ALARM_RATE
    narrow = estimate(small, large, confidence=0.8)
    held = np.asarray((narrow.lower <= true) & (true <= narrow.upper))
    assert coverage_p_value(held, 0.95) < FALSE_ALARM_RATE
    assert bool(jnp.any(jnp.isinf(high))) == (size < 1.0)


def test_the_scale_of_the_norms_does_not_matter():
    small, large = norms(3, 1, 50)
    expected = estimate(small, large)
    for factor in (1e25, 1e-25):
        found = estimate(factor * small, factor * large)
        np.testing.assert_allclose(found.noise_scale, expected.noise_scale, rtol=1e-4)
        for end in ("lower", "upper"):
            got, wanted = getattr(found, end), getattr(expected, end)
            np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_no_noise_no_gradient_and_what_is_not_finite():
    ones, zeros = jnp.ones(3), jnp.zeros(3)
    no_noise = estimate(ones, ones)
    assert float(no_noise.noise_scale) == 0.0 and float(no_noise.trace) == 0.0
    only_noise = estimate(ones, ones * (B / LARGE) ** 0.5)
    assert np.isinf(only_noise.noise_scale) or float(only_noise.noise_scale) > 1e5
    nothing = estimate(zeros, zeros)
    assert (float(nothing.lower), float(nothing.upper)) == (0.0, np.inf)
    for bad in (jnp.nan, jnp.inf):
        found = estimate(ones.at[1].set(bad), ones)
        assert all(np.isnan(x) for x in jax.tree.leaves(found))


@pytest.mark.parametrize("number", [int, float, np.int32, np.float64])
def test_the_large_batch_is_the_larger_one(number):
    with pytest.raises(ValueError, match="large_batch_size"):
        hto.tail_index.gradient_noise_scale(
            jnp.ones(3),
            jnp.ones(3),
            small_batch_size=number(LARGE),
            large_batch_size=number(B),
        )


def test_under_transformations_and_along_axes():
    small, large = (jnp.asarray(x, jnp.float32) for x in norms(4, 3, 40))
    expected = estimate(small, large)
    for found in (
        jax.jit(estimate)(small, large),
        jax.vmap(estimate)(small, large),
        estimate(small.T, large.T, axis=0),
    ):
        for got, wanted in zip(
            jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(got, wanted, rtol=1e-4)
    traced = jax.jit(
        lambda b: hto.tail_index.gradient_noise_scale(
            small, large, small_batch_size=b, large_batch_size=8 * b
        )
    )(jnp.float32(B))
    np.testing.assert_allclose(traced.trace, expected.trace, rtol=1e-4)


def test_the_interval_holds_the_estimate_where_there_is_no_gradient():
    noise = np.random.default_rng(0).normal(size=(400, 50, 8, 10)).astype(np.float32)
    small = np.sqrt(np.mean(np.sum(noise**2, -1), -1))
    large = np.linalg.norm(noise.mean(-2), axis=-1)
    sizes = {"small_batch_size": 1, "large_batch_size": 8}
    found = hto.tail_index.gradient_noise_scale(small, large, axis=-1, **sizes)
    assert np.sum(np.isinf(found.noise_scale)) > 100  # where |G|^2 came out negative
    assert np.all(found.lower <= found.noise_scale)
    assert np.all(found.noise_scale <= found.upper)
    # The true scale is infinite: 95 % of the intervals have no end, and with 400 of them
    # fewer than 92 % come once in 500.
    assert np.mean(np.isinf(found.upper)) > 0.92


@pytest.mark.parametrize(
    ("small_size", "large_size"), [(4, 1), (-1, 4), (0, 4), (1, -4)]
)
def test_batch_sizes_of_jax_out_of_range_give_nan(small_size, large_size):
    norms = jnp.linspace(1.0, 2.0, 50)
    found = hto.tail_index.gradient_noise_scale(
        norms,
        0.5 * norms,
        small_batch_size=jnp.float32(small_size),
        large_batch_size=jnp.float32(large_size),
    )
    assert all(np.isnan(x) for x in (found.noise_scale, found.lower, found.upper))
