"""Proposed settings do what they say, by simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from statistical_checks import FALSE_ALARM_RATE

import heavytail_optax as hto

propose = hto.tail_index.propose_settings
KEYS = jax.random.split(jax.random.key(0), 3)
NOISE = jnp.exp(0.5 * jax.random.normal(KEYS[0], (500,)))
GRADIENT = jnp.exp(0.3 * jax.random.normal(KEYS[1], (500,)))


def simulated_norms(settings, learning_rate, num):
    """Norms of steps with the measured norms and inflated noise at right angles."""
    draws = np.asarray(hto.tails.pareto(settings.alpha).sample(KEYS[2], (num,)))
    index = np.arange(num) % 500
    noise = float(settings.scale) * draws * np.asarray(NOISE)[index]
    return learning_rate * np.hypot(np.asarray(GRADIENT)[index], noise), draws


def test_the_share_that_is_truncated_and_the_median_of_z():
    for alpha, share in ((1.2, 0.01), (1.4, 0.1), (1.8, 0.6)):
        settings = propose(
            NOISE, GRADIENT, 0.1, alpha=alpha, scale=0.5, truncated_share=share
        )
        norms, draws = simulated_norms(settings, 0.1, 100_000)
        above = int((norms > settings.max_norm).sum())
        assert scipy.stats.binomtest(above, 100_000, share).pvalue > FALSE_ALARM_RATE
        wrong = int((norms > 1.3 * settings.max_norm).sum())
        assert scipy.stats.binomtest(wrong, 100_000, share).pvalue < FALSE_ALARM_RATE
        median = float(np.median(settings.scale * draws))
        np.testing.assert_allclose(median, 0.5 * 2 ** (1 / alpha), rtol=0.02)


def test_closed_form_without_gradient():
    settings = propose(jnp.full(20, 3.0), jnp.zeros(20), 0.1, alpha=1.5)
    # P(eta c W |V| > b) = (eta c |V| / b)^alpha
    expected = 0.1 * float(settings.scale) * 3.0 * 0.03 ** (-1 / 1.5)
    np.testing.assert_allclose(settings.max_norm, expected, rtol=1e-4)
    np.testing.assert_allclose(settings.typical_noise_norm, 0.3, rtol=1e-6)
    assert settings.typical_update_norm == 0.0


def test_units():
    settings = propose(NOISE, GRADIENT, 0.1)
    larger = propose(10 * NOISE, 10 * GRADIENT, 0.2)
    np.testing.assert_allclose(larger.max_norm, 20 * settings.max_norm, rtol=1e-4)
    np.testing.assert_allclose(larger.scale, settings.scale, rtol=1e-6)
    assert settings.max_norm > settings.typical_update_norm
