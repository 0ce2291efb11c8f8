"""Generalised Pareto fits against SciPy and a published fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from public_samples import DANISH_FIRES_ABOVE_TEN

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


def test_light_tails_have_no_index():
    exponential = fit(jax.random.exponential(jax.random.key(2), (2000,)), 1999)
    assert abs(exponential.gamma) < 4 * exponential.gamma_standard_error
    assert jnp.isinf(exponential.upper)
    uniform = fit(jax.random.uniform(jax.random.key(3), (400,)), 399)
    assert -0.5 <= uniform.gamma < -0.49  # the least that it gives is -1/2
    assert jnp.isinf(uniform.estimate)


def test_ties():
    tied = jnp.asarray([5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0])
    assert jnp.isfinite(fit(tied, 5).gamma)
    assert jnp.isnan(fit(jnp.ones(10), 5).gamma)
