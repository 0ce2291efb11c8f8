"""Generalised Pareto fits against SciPy and a published fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from public_samples import DANISH_FIRES_ABOVE_TEN
from statistical_checks import FALSE_ALARM_RATE, means_p_value

import heavytail_optax as hto

fit = hto.tail_index.generalised_pareto


def test_the_published_fit_of_the_danish_fires():
    """McNeil (1997), threshold 10: shape 0.497, scale 6.98, errors 0.14 and 1.1.

    Also McNeil, Frey, Embrechts, *Quantitative Risk Management* (2005), example 7.23.
    """
    losses = jnp.asarray([*DANISH_FIRES_ABOVE_TEN, 10.0])
    got = fit(losses, 109)
    assert got.threshold == 10.0
    assert f"{got.gamma:.3f} {got.scale:.2f}" == "0.497 6.98"
    assert (
        f"{got.gamma_standard_error:.2f} {got.scale_standard_error:.1f}" == "0.14 1.2"
    )


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3, 1.0, 3.0])
def test_scipy_finds_no_better(shape):
    draws = scipy.stats.genpareto(shape, scale=2.0).rvs(
        300, random_state=np.random.default_rng(5)
    )
    with jax.enable_x64():
        got = fit(jnp.asarray([*draws, 0.0]), 300)
        gamma, _, scale = scipy.stats.genpareto.fit(
            draws, float(got.gamma), floc=0, scale=float(got.scale)
        )
        np.testing.assert_allclose(got.gamma, gamma, atol=2e-4)
        np.testing.assert_allclose(got.scale, scale, rtol=2e-4)
        expected = scipy.stats.genpareto.logpdf(
            draws, float(got.gamma), scale=float(got.scale)
        )
        np.testing.assert_allclose(got.log_likelihood, expected.sum(), rtol=1e-10)
    single = fit(jnp.asarray([*draws, 0.0], jnp.float32), 300)
    np.testing.assert_allclose(single.gamma, got.gamma, atol=2e-4)


def test_shift_and_scale():
    draws = hto.tails.lomax(2.0).sample(jax.random.key(0), (3, 400))
    got = fit(draws, 100)
    moved = fit(1e6 * (draws + 1.0), 100)
    np.testing.assert_allclose(moved.gamma, got.gamma, atol=1e-3)
    np.testing.assert_allclose(moved.scale, 1e6 * got.scale, rtol=1e-3)


def test_the_standard_errors_are_the_spread():
    draws = hto.tails.lomax(2.0).sample(jax.random.key(1), (500, 400))
    got = fit(draws, 399)
    np.testing.assert_allclose(got.gamma.mean(), 0.5, atol=0.02)
    np.testing.assert_allclose(
        got.gamma.std(), got.gamma_standard_error.mean(), rtol=0.1
    )
    np.testing.assert_allclose(
        got.scale.std(), got.scale_standard_error.mean(), rtol=0.1
    )


def test_every_fit_is_at_least_as_likely_as_an_exponential_law():
    """Which is the fit with a shape of zero. A search may stop beside the maximum."""
    draws = jax.random.exponential(jax.random.key(20_050), (4000, 200))
    got = fit(jnp.pad(draws, ((0, 0), (0, 1))), 200)
    mean = np.asarray(draws, np.float64).mean(axis=-1)
    likelihood = -200 * (np.log(mean) + 1)
    assert (np.asarray(got.log_likelihood) > likelihood - 0.01).all()
    # Twice the gain is a chi-square variable.
    gain = 2 * (np.asarray(got.log_likelihood, np.float64) - likelihood)
    np.testing.assert_allclose(gain.mean(), 1.0, atol=0.15)


def profile_likelihood(draws, shape):
    """The likelihood with the best scale, by bisection of its derivative by the scale."""
    low, high = np.full(len(draws), -9.0), np.full(len(draws), 9.0)
    for _ in range(50):
        middle = 0.5 * (low + high)
        z = draws / np.exp(middle)[:, None]
        is_low = (1 + shape) * (z / (1 + shape * z)).mean(axis=-1) > 1
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    law = scipy.stats.genpareto(shape, scale=np.exp(low)[:, None])
    return law.logpdf(draws).sum(axis=-1)


@pytest.mark.parametrize("shape", [0.0, 0.5, 1.0])
def test_the_law_of_the_signed_root(shape):
    """Normal, of the mean that the interval takes for granted."""
    rng = np.random.default_rng(7)
    draws = scipy.stats.genpareto(shape).rvs((4000, 100), random_state=rng)
    got = fit(jnp.pad(jnp.asarray(draws, jnp.float32), ((0, 0), (0, 1))), 100)
    gain = np.asarray(got.log_likelihood) - profile_likelihood(draws, shape)
    root = np.sign(np.asarray(got.gamma) - shape) * np.sqrt(2 * np.maximum(gain, 0))
    mean = -2.4 / ((1 + shape) * 10)
    # Measured to a tenth, and there are terms of the order of 1 / k.
    assert means_p_value(root[:, None], [mean], 0.03) > FALSE_ALARM_RATE
    assert means_p_value(root[:, None], [0.0], 0.03) < FALSE_ALARM_RATE
    np.testing.assert_allclose(root.std(), 1.0, atol=0.05)


@pytest.mark.parametrize("shape", [0.0, 0.5])
def test_the_interval_of_few_draws(shape):
    """Of 4,000 samples of 50 draws; the false-alarm rate is 1e-6 for 93 to 96.5 %."""
    uniform = jax.random.uniform(jax.random.key(6), (4000, 50), minval=1e-6)
    quantiles = (
        -jnp.log(uniform) if shape == 0 else jnp.expm1(-shape * jnp.log(uniform))
    )
    got = fit(jnp.pad(quantiles, ((0, 0), (0, 1))), 50)
    alpha = 1 / shape if shape else np.inf
    covers = (got.lower <= alpha) & (alpha <= got.upper)
    if not shape:
        # The interval of alpha begins at infinity where all of that of gamma is below 0.
        covers = jnp.isinf(got.upper) & jnp.isfinite(got.lower)
    assert 0.92 <= np.mean(covers) <= 0.97
    # The usual interval, around the estimate, is too high at neither end.
    half = 1.96 * got.gamma_standard_error
    usual = (got.gamma - half <= shape) & (shape <= got.gamma + half)
    assert np.mean(usual) < 0.92


def test_derivative():
    with jax.enable_x64():
        draws = jnp.asarray(np.random.default_rng(0).pareto(1.5, 60) + 1.0)
        got = jax.grad(lambda x: fit(x, 30).gamma)(draws)
        step = 1e-6 * np.eye(60)
        above, below = (fit(draws[None] + x, 30).gamma for x in (step, -step))
        np.testing.assert_allclose(got, (above - below) / 2e-6, atol=1e-6)


def test_light_tails_have_no_index():
    exponential = fit(jax.random.exponential(jax.random.key(2), (2000,)), 1999)
    assert abs(exponential.gamma) < 4 * exponential.gamma_standard_error
    assert jnp.isinf(exponential.upper)
    uniform = fit(jax.random.uniform(jax.random.key(3), (400,)), 399)
    # The least that it gives.
    np.testing.assert_allclose(uniform.gamma, -0.5, atol=1e-5)
    assert jnp.isinf(uniform.estimate)


def test_ties():
    tied = jnp.asarray([5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0])
    assert jnp.isfinite(fit(tied, 5).gamma)
    assert jnp.isnan(fit(jnp.ones(10), 5).gamma)
