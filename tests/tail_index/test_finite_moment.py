"""Whether a moment exists: against NumPy, with its rates of error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from statistical_checks import FALSE_ALARM_RATE, law_p_value

import heavytail_optax as hto

TI = hto.tail_index
NORMAL = scipy.stats.norm()


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
def test_the_moment_is_that_of_the_formula(order):
    draws = np.asarray(
        hto.tails.student_t(5.0).sample(jax.random.key(0), (3, 1000)), np.float64
    )

    def moment(power):
        return np.mean(np.abs(draws) ** power, axis=1)

    def of_normal(power):
        value = scipy.integrate.quad(lambda x: x**power * NORMAL.pdf(x), 0, np.inf)[0]
        return 2 * value

    half = order / 2
    expected = (
        moment(order) / moment(half) ** 2 * of_normal(half) ** 2 / of_normal(order)
    )
    found = TI.finite_moment_test(1e3 * draws, key=0, order=order)
    np.testing.assert_allclose(found.moment, expected, rtol=1e-4)
    expected = scipy.stats.chi2.sf(np.asarray(found.statistic, float), 1)
    np.testing.assert_allclose(found.p_value, expected, rtol=1e-3, atol=1e-12)


def test_the_statistic_has_the_mean_of_its_law():
    """`E theta(u)^2 = 4 p (1 - p) + 4 r (p - 1/2)^2` with `p = Phi(u / e^(m/2))`.

    Five standard errors: at most one false alarm in a million keys.
    """
    draws = jax.random.normal(jax.random.key(0), (400, 1000))
    same = jnp.broadcast_to(draws[:1], draws.shape)
    found = TI.finite_moment_test(same, key=1)
    r = round(1000**0.8)
    share = NORMAL.cdf(2**0.5 * np.exp(-0.5 * float(found.moment[0])))
    each = 4 * share * (1 - share) + 4 * r * (share - 0.5) ** 2
    error = np.std(found.statistic) / 20.0
    assert abs(np.mean(found.statistic) - each) < 5 * error


def test_p_values_are_uniform_only_if_the_moment_is_infinite():
    """theta moves in steps of 2 / sqrt(r); noise as wide as a step makes it continuous."""
    cauchy = hto.tails.student_t(0.5).sample(jax.random.key(0), (1000, 3000))
    found = TI.finite_moment_test(cauchy, key=2)
    r = round(3000**0.8)
    jitter = np.random.default_rng(0).uniform(-1.0, 1.0, size=1000) / r**0.5
    p_value = scipy.stats.chi2.sf(
        (np.sqrt(np.asarray(found.statistic, float)) + jitter) ** 2, 1
    )
    assert law_p_value(p_value, lambda p: p) > FALSE_ALARM_RATE
    light = jax.random.laplace(jax.random.key(0), (1000, 3000))
    finite = TI.finite_moment_test(light, key=2)
    assert law_p_value(finite.p_value, lambda p: p) < FALSE_ALARM_RATE
    assert jnp.mean(finite.p_value < 0.05) > 0.99


def test_the_rates_of_error_that_are_stated():
    """A Cauchy law's variance is rarely called finite, one of index 1.9 nearly always.

    That is, in at most 6 and at least 90 % of samples. The other law is the control. A
    test that keeps these rates fails this for at most one key in a million.
    """
    num = 200
    finite = {}
    for df in (1.0, 1.9, 3.0):
        draws = hto.tails.student_t(df).sample(jax.random.key(0), (num, 10_000))
        found = TI.finite_moment_test(draws, key=3)
        finite[df] = int(jnp.sum(found.p_value < 0.05))

    def at_most(count, rate):
        return scipy.stats.binom.sf(count - 1, num, rate)

    assert at_most(finite[1.0], 0.06) > FALSE_ALARM_RATE, finite
    assert at_most(finite[1.9], 0.06) < FALSE_ALARM_RATE, finite
    for df, rate in ((1.9, 0.1), (3.0, 0.01)):
        assert at_most(num - finite[df], rate) > FALSE_ALARM_RATE, finite
    assert at_most(num - finite[1.0], 0.1) < FALSE_ALARM_RATE, finite
    # The mean of index 1.9 is finite: missed in at most 1 % of samples.
    draws = hto.tails.student_t(1.9).sample(jax.random.key(0), (num, 10_000))
    found = TI.finite_moment_test(draws, key=3, order=1.0)
    missed = int(jnp.sum(found.p_value >= 0.05))
    assert at_most(missed, 0.01) > FALSE_ALARM_RATE


@pytest.mark.parametrize("unit", [1e38, 1e-30])
def test_units_at_the_ends_of_float32(unit):
    draws = jax.random.uniform(jax.random.key(0), (500,), minval=-1.0, maxval=1.0)
    expected = TI.finite_moment_test(draws, key=0)
    found = TI.finite_moment_test(3.0 * draws * unit, key=0)
    np.testing.assert_allclose(found.moment, expected.moment, rtol=1e-5)


def test_keys_axes_and_no_use():
    draws = hto.tails.student_t(1.2).sample(jax.random.key(0), (2, 500))
    one = TI.finite_moment_test(draws, key=0)
    again = TI.finite_moment_test(draws.T, key=0, axis=0)
    np.testing.assert_allclose(one.p_value, again.p_value, rtol=1e-4)
    other = TI.finite_moment_test(draws, key=1)
    assert (one.statistic != other.statistic).all()
    assert jnp.isnan(TI.finite_moment_test(jnp.zeros(100), key=0).p_value)
    infinite = jnp.ones(100).at[3].set(jnp.inf)
    assert jnp.isnan(TI.finite_moment_test(infinite, key=0).p_value)
