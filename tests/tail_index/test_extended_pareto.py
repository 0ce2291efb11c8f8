"""The extended Pareto estimator against float64, its law, and the bias it takes away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from statistical_checks import FALSE_ALARM_RATE, law_p_value, means_p_value

import heavytail_optax as hto

TI = hto.tail_index
DRAWS = hto.tails.pareto(1.5).sample(jax.random.key(0), (4, 500))


def reference(draws, k, rho):
    descending = -np.sort(-np.asarray(draws, np.float64), axis=-1)
    ratio = descending[..., :k] / descending[..., k : k + 1]
    hill = np.log(ratio).mean(axis=-1)
    power = (ratio ** (rho / hill[..., None])).mean(axis=-1)
    factor = (1 - 2 * rho) * (1 - rho) ** 2 / -(rho**3)
    of_few = (1 - 2 * rho) / (-rho * (1 - rho) * k)
    return hill * (1 + factor * (power - 1 / (1 - rho)) + of_few)


@pytest.mark.parametrize(("k", "rho"), [(5, -1.0), (100, -0.5), (499, -3.0)])
def test_the_formula(k, rho):
    got = TI.extended_pareto(DRAWS, k, rho=rho)
    np.testing.assert_allclose(got.gamma, reference(DRAWS, k, rho), rtol=1e-3)
    error = got.gamma * (1 - rho) / -rho / k**0.5
    np.testing.assert_allclose(got.gamma_standard_error, error, rtol=1e-5)
    many = jnp.full(4, k)
    traced = jax.jit(TI.extended_pareto)(DRAWS, many, rho=jnp.asarray(rho))
    np.testing.assert_allclose(traced.gamma, got.gamma, rtol=1e-4)


def test_float64():
    with jax.enable_x64():
        draws = np.random.default_rng(0).pareto(1.5, 500) + 1.0
        got = TI.extended_pareto(jnp.asarray(draws), 50).gamma
        np.testing.assert_allclose(got, reference(draws, 50, -1.0), rtol=1e-12)


@pytest.mark.parametrize(("k", "rho"), [(12, -1.0), (100, -0.5)])
def test_mean_and_variance_under_a_power_law(k, rho):
    draws = hto.tails.pareto(1.0).sample(jax.random.key(1), (20_000, k + 1))
    gamma = np.asarray(TI.extended_pareto(draws, k, rho=rho).gamma, np.float64)[:, None]
    # What is neglected is of the order of 1 / k^2.
    assert means_p_value(gamma, [1.0], 10.0 / k**2) > FALSE_ALARM_RATE
    of_few = (1 - 2 * rho) / (-rho * (1 - rho) * k)
    assert means_p_value(gamma, [1.0 + of_few], 0.1 * of_few) < FALSE_ALARM_RATE
    # Asymptotic, and the chance of 20,000 samples.
    variance = ((1 - rho) / rho) ** 2 / k
    np.testing.assert_allclose(gamma.var(), variance, rtol=0.05 + 1.5 / k)


def test_the_law_that_the_interval_takes_for_granted():
    """A gamma variable with k / 4 degrees; of one with another mean it would be told."""
    draws = hto.tails.pareto(1.0).sample(jax.random.key(2), (2000, 401))
    gamma = np.asarray(TI.extended_pareto(draws, 400).gamma, np.float64)
    assert law_p_value(100 * gamma, scipy.stats.gamma(100).cdf) > FALSE_ALARM_RATE
    assert law_p_value(107 * gamma, scipy.stats.gamma(100).cdf) < FALSE_ALARM_RATE


@pytest.mark.parametrize(
    ("law", "alpha", "left"),
    [(hto.tails.alpha_stable(1.5), 1.5, 0.0), (hto.tails.student_t(3.0), 3.0, 0.25)],
)
def test_it_has_less_bias_than_hill(law, alpha, left):
    """None where rho is -1, and a quarter of Hill's where it is -2/3."""
    draws = jnp.abs(law.sample(jax.random.key(3), (1000, 10_000)))
    hill = np.asarray(TI.hill(draws, 400).gamma, np.float64)[:, None]
    corrected = np.asarray(TI.extended_pareto(draws, 400).gamma, np.float64)[:, None]
    bias = hill.mean() - 1 / alpha
    assert abs(bias) > 0.02
    expected = 1 / alpha + left * bias
    # Terms of third order.
    assert means_p_value(corrected, [expected], 0.15 * abs(bias)) > FALSE_ALARM_RATE
    assert means_p_value(hill, [expected], 0.15 * abs(bias)) < FALSE_ALARM_RATE


def test_a_tail_lighter_than_any_power_law():
    draws = jnp.exp(jax.random.beta(jax.random.key(4), 5.0, 1.0, (10_000,)))
    got = TI.extended_pareto(draws, 9000)
    assert got.gamma < 0
    assert jnp.isinf(jnp.stack([got.estimate, got.lower, got.upper])).all()
    # So few that nothing can be told, for gamma above zero and below.
    few = TI.extended_pareto(jnp.stack([DRAWS[0], draws[:500]]), 1)
    assert (few.lower == 0.0).all()
    equal = jnp.exp(jnp.asarray([1.0, 0.9999, 0.9998, 0.0]))
    light = TI.extended_pareto(equal, 3, confidence=0.999)
    assert light.gamma < 0 and light.lower == 0.0 and jnp.isinf(light.upper)


@pytest.mark.parametrize("rho", [-0.01, -0.05, -100.0])
@pytest.mark.parametrize("k", [1, 5, 499])
def test_the_ends_of_rho(rho, k):
    got = TI.extended_pareto(DRAWS, k, rho=rho)
    assert (got.lower >= 0.0).all() and (got.upper > 0.0).all()
    assert not jnp.isnan(jnp.stack(got[:6])).any()
    if rho == -100.0 and k == 499:  # Hill's estimate, nearly
        hill = TI.hill(DRAWS, k, interval="uncorrected")
        np.testing.assert_allclose(got.estimate, hill.estimate, rtol=0.02)
        np.testing.assert_allclose(got.upper, hill.upper, rtol=0.03)


def test_the_dtype_is_that_of_the_draws():
    with jax.enable_x64():
        got = TI.extended_pareto(DRAWS, 50, rho=np.float64(-0.7))
        assert got.estimate.dtype == jnp.float32


def test_what_it_cannot_take():
    found = TI.extended_pareto(DRAWS[0].at[3].set(jnp.nan), 9)
    for field in ("estimate", "standard_error", "corrected_estimate", "lower", "upper"):
        assert jnp.isnan(getattr(found, field)), field
    assert not found.is_biased
    assert jnp.isnan(TI.extended_pareto(-DRAWS[0], 9).upper)
    assert jnp.isnan(TI.extended_pareto(-DRAWS[0], 9).lower)


def test_derivative():
    with jax.enable_x64():
        draws = jnp.asarray(np.random.default_rng(0).pareto(1.5, 60) + 1.0)
        got = jax.grad(lambda x: TI.extended_pareto(x, 20).gamma)(draws)
        step = 1e-6 * np.eye(60)
        above, below = (
            TI.extended_pareto(draws[None] + x, 20).gamma for x in (step, -step)
        )
        np.testing.assert_allclose(got, (above - below) / 2e-6, atol=1e-7)
