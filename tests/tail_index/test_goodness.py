"""Tests of the power law: how often they reject one, and that they reject others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from statistical_checks import FALSE_ALARM_RATE, law_p_value

import heavytail_optax as hto

TI = hto.tail_index
PARETO = hto.tails.pareto(1.5).sample(jax.random.key(0), (2000, 400))
GAUSSIAN = jnp.abs(hto.tails.gaussian().sample(jax.random.key(1), (200, 4000)))


def test_the_trend_is_normal_under_a_power_law():
    drift = TI.hill_drift(PARETO, 200)
    z = np.asarray(drift.z, np.float64)
    # The sum of 200 bounded weights times exponentials is normal to 1e-3.
    assert law_p_value(z, scipy.stats.norm.cdf) > FALSE_ALARM_RATE
    assert law_p_value(z + 0.3, scipy.stats.norm.cdf) < FALSE_ALARM_RATE
    np.testing.assert_allclose(
        drift.p_value, 2 * scipy.stats.norm.sf(np.abs(z)), rtol=1e-3
    )
    hill = TI.hill(PARETO, 200).estimate
    np.testing.assert_allclose(drift.estimate, hill, rtol=1e-3)
    outer = TI.hill(PARETO, 50).estimate
    np.testing.assert_allclose(drift.outer_estimate, outer, rtol=1e-3)


def test_the_estimate_of_a_gaussian_moves():
    drift = TI.hill_drift(GAUSSIAN, 400)
    assert (drift.p_value < 0.01).mean() > 0.95
    assert (drift.z > 0).all()


@pytest.mark.slow
def test_goodness_of_fit_has_its_level_and_power():
    fit = TI.goodness_of_fit(PARETO, 100, key=0, num_simulations=499)
    rejected = int((fit.p_value <= 0.05).sum())
    assert scipy.stats.binomtest(rejected, 2000, 0.05).pvalue > FALSE_ALARM_RATE
    power = TI.goodness_of_fit(GAUSSIAN, 800, key=0, num_simulations=199)
    assert (power.p_value <= 0.05).mean() > 0.9


def test_the_distance():
    draws = np.asarray(PARETO[0], np.float64)
    descending = -np.sort(-draws)
    y = np.log(descending[:100] / descending[100])
    expected = scipy.stats.kstest(y, scipy.stats.expon(scale=y.mean()).cdf).statistic
    got = TI.goodness_of_fit(PARETO[0], 100, key=0, num_simulations=10)
    np.testing.assert_allclose(got.distance, expected, rtol=1e-3)


def test_what_has_no_logarithm_gives_nan():
    assert jnp.isnan(TI.hill_drift(-PARETO[0], 100).p_value)
    fit = TI.goodness_of_fit(-PARETO[0], 100, key=0, num_simulations=10)
    assert jnp.isnan(fit.p_value)
