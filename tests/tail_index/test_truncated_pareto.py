"""A power law that ends: against closed forms, SciPy and its own law."""

import fractions
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
from statistical_checks import FALSE_ALARM_RATE, counts_p_value, law_p_value

import heavytail_optax as hto
from heavytail_optax.tail_index._truncated_exponential import (
    log_mass,
    mean_place,
    slope_of_mean,
    variance_of_place,
)

fit = hto.tail_index.truncated_pareto
ALPHA = 1.5


def truncated(share):
    """Draws of a power law whose largest share is left out, and where it ends."""

    def sample(key, shape):
        uniform = share * jax.random.uniform(key, shape)
        return jnp.exp(-jnp.log1p(-uniform) / ALPHA)

    return sample, (1 - share) ** (-1 / ALPHA) if share < 1 else np.inf


@pytest.mark.parametrize(
    "u", [-40.0, -3.0, -0.51, -0.49, -1e-3, 0.0, 0.3, 0.6, 8.0, 90.0]
)
def test_moments_of_the_truncated_exponential(u):
    moments = [
        scipy.integrate.quad(
            lambda x, n=n: x**n * np.exp(-u * x - max(-u, 0.0)), 0, 1, epsabs=1e-13
        )[0]
        for n in range(3)
    ]
    mean, square = moments[1] / moments[0], moments[2] / moments[0]
    expected = np.log(moments[0]) + max(-u, 0.0), mean, square - mean**2
    u = jnp.float32(u)
    found = log_mass(u), mean_place(u), variance_of_place(u)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
    again = mean_place(slope_of_mean(jnp.float32(mean)))
    np.testing.assert_allclose(again, mean, rtol=1e-5)


@pytest.mark.parametrize("share", [0.9, 0.999, 1.0])
@pytest.mark.parametrize("k", [20, 300])
def test_scipy_finds_the_same_index(share, k):
    """The most likely index of the draws below the largest, and its likelihood interval."""
    draws = truncated(share)[0](jax.random.key(k), (2000,))
    found = fit(draws, k)
    top = np.sort(np.asarray(draws, np.float64))[::-1][: k + 1]
    y = np.log(top[1:k] / top[k])
    length = np.log(top[0] / top[k])

    def loss(alpha):
        mass = -np.expm1(-alpha * length) / alpha
        return alpha * y.sum() + (k - 1) * np.log(mass)

    best = scipy.optimize.minimize_scalar(loss, bounds=(-5, 20), method="bounded")
    np.testing.assert_allclose(found.estimate, best.x, rtol=1e-3)
    apart = [2 * (loss(float(x)) - best.fun) for x in (found.lower, found.upper)]
    np.testing.assert_allclose(apart, 1.959964**2, rtol=5e-3)
    step = 1e-3
    second = (loss(best.x + step) - 2 * best.fun + loss(best.x - step)) / step**2
    np.testing.assert_allclose(found.standard_error, second**-0.5, rtol=1e-2)


def share_of_largest(g, k):
    """Fisher (1929): that of k exponentials the largest is at most g of their sum."""
    g = fractions.Fraction(round(g * 2**40), 2**40)  # exact: the terms cancel
    return float(
        sum(
            (-1) ** j * math.comb(k, j) * (1 - j * g) ** (k - 1)
            for j in range(int(1 / g) + 1)
        )
    )


@pytest.mark.parametrize("k", [10, 50, 386])
@pytest.mark.parametrize("share", [0.9, 0.999, 1.0])
def test_the_p_value_is_fishers(k, share):
    draws = truncated(share)[0](jax.random.key(1), (4, 10 * k))
    top = -np.sort(-np.asarray(draws, np.float64))[:, : k + 1]
    logs = np.log(top[:, :k] / top[:, k:])
    exact = [share_of_largest(row[0] / row.sum(), k) for row in logs]
    np.testing.assert_allclose(fit(draws, k).p_value, exact, rtol=0.02, atol=1e-6)


def replications(share, size, k, num=400):
    keys = jax.random.split(jax.random.key(7), num)
    sample, end = truncated(share)
    draws = jax.lax.map(lambda key: sample(key, (size,)), keys)
    return fit(draws, k), end


@pytest.mark.parametrize(("size", "k"), [(1200, 115), (5000, 250)])
@pytest.mark.parametrize("share", [0.9, 0.99, 0.999, 1.0])
def test_both_intervals_cover(share, size, k):
    """Coverage between 93 and 97 % fails this for at most one key in a million."""
    found, end = replications(share, size, k)
    covers = [
        (found.lower <= ALPHA) & (ALPHA <= found.upper),
        (found.end_lower <= end) & (end <= found.end_upper),
        found.end < end,
    ]
    counts = [int(jnp.sum(x)) for x in covers]
    for count, low, high in zip(
        counts, (0.93, 0.93, 0.45), (0.97, 0.97, 0.55), strict=True
    ):
        allowed = np.clip(count / 400, low, high)
        assert counts_p_value(count, 400, allowed) > FALSE_ALARM_RATE
    if share < 0.999:  # the negative control: Hill knows of no end
        keys = jax.random.split(jax.random.key(7), 400)
        draws = jax.vmap(lambda key: truncated(share)[0](key, (size,)))(keys)
        hill = hto.tail_index.hill(draws, k, interval="uncorrected")
        count = int(jnp.sum((hill.lower <= ALPHA) & (ALPHA <= hill.upper)))
        assert counts_p_value(count, 400, 0.95) < FALSE_ALARM_RATE


def test_the_p_value_is_uniform_without_an_end():
    endless, _ = replications(1.0, 1200, 115)
    assert law_p_value(endless.p_value, lambda p: p) > FALSE_ALARM_RATE
    ending, _ = replications(0.99, 1200, 115)
    assert law_p_value(ending.p_value, lambda p: p) < FALSE_ALARM_RATE
    assert jnp.mean(ending.p_value < 0.01) > 0.8
    flat, _ = replications(0.99, 5000, 250)
    count = int(jnp.sum(jnp.abs(flat.curvature) > 1.96))
    assert counts_p_value(count, 400, 0.05) > FALSE_ALARM_RATE
    gaussian = jax.random.normal(jax.random.key(0), (100, 5000))
    assert jnp.mean(fit(jnp.abs(gaussian), 500).curvature > 1.96) > 0.8


def test_a_cap_is_no_truncation():
    """Of clipped draws the index is that of censored ones, in closed form."""
    law = hto.tails.pareto(ALPHA)
    draws = law.sample(jax.random.key(3), (400, 2000))
    clipped = jnp.minimum(draws, 20.0) * (
        1 + 1e-7 * jax.random.normal(jax.random.key(4), draws.shape)
    )
    found = fit(clipped, 400)
    assert found.is_capped.all() and not fit(draws, 400).is_capped.any()
    assert (found.p_value == 0).all()
    assert ((found.end_lower <= 20.0) & (20.0 <= found.end_upper)).all()
    top = -np.sort(-np.asarray(clipped, np.float64))[:, :401]
    tied = (top > 19.9999).sum(axis=1)
    expected = (400 - tied) / np.log(top[:, :400] / top[:, 400:]).sum(axis=1)
    np.testing.assert_allclose(found.estimate, expected, rtol=1e-4)
    np.testing.assert_array_equal(found.num_tied, tied)
    count = int(jnp.sum((found.lower <= ALPHA) & (ALPHA <= found.upper)))
    assert counts_p_value(count, 400, 0.95) > FALSE_ALARM_RATE
    # As if truncated, it would be wrong: the draws at the cap are left out.
    left_out = fit(jnp.where(clipped > 19.99, 1.0, clipped), 350)
    assert not left_out.is_capped.any()
    assert (left_out.p_value < 0.05).mean() > 0.9


def test_units_order_and_axes():
    draws = truncated(0.99)[0](jax.random.key(5), (3, 500))
    found = fit(draws, 60)
    scaled = fit(1000.0 * draws[:, ::-1], 60)
    for name in ("estimate", "lower", "upper", "p_value", "curvature"):
        one, other = getattr(found, name), getattr(scaled, name)
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scaled.end, 1000 * found.end, rtol=1e-4)
    by_axis = fit(draws.T, 60, axis=0)
    np.testing.assert_array_equal(by_axis.estimate, found.estimate)
    alone = jax.jit(lambda x: fit(x, 60))(draws[1])
    np.testing.assert_allclose(alone.end_upper, found.end_upper[1], rtol=1e-4)


@pytest.mark.parametrize(
    "draws",
    [jnp.ones(100), -jnp.ones(100), jnp.arange(100.0).at[0].set(jnp.inf)],
    ids=["equal", "negative", "infinite"],
)
def test_draws_of_no_use_give_nan(draws):
    found = fit(draws, 20)
    assert (
        jnp.isnan(found.estimate) and jnp.isnan(found.end) and jnp.isnan(found.p_value)
    )


def test_verdicts_of_tails_that_end():
    """Of 20 samples: most are called so, and a power law without an end hardly ever.

    That is, at least 60 % and at most 2 %, and at most one light tail in a thousand. An
    estimator with these rates fails this for at most one key in a million in each. The law without
    an end is the control of those with one.
    """
    end = truncated(0.999)[1]
    words = {}
    for name, sample in {
        "ending": truncated(0.999)[0],
        "clipped": lambda key, shape: jnp.minimum(truncated(1.0)[0](key, shape), 50.0),
        "endless": truncated(1.0)[0],
        "exponential": jax.random.exponential,
        "gaussian": lambda key, shape: jnp.abs(jax.random.normal(key, shape)),
    }.items():
        keys = jax.random.split(jax.random.key(11), 20)
        found = [hto.tail_index.assess_tail(sample(key, (10_000,))) for key in keys]
        words[name] = [x.verdict for x in found].count("power law up to an end")
        for each in found:
            if each.verdict == "power law up to an end" and name == "ending":
                assert each.sentence.endswith(
                    f"and it ends at {float(each.truncated.end):.4g} "
                    f"({float(each.truncated.end_lower):.4g} to "
                    f"{float(each.truncated.end_upper):.4g})."
                )
                assert each.truncated.end_lower <= end
                assert "smaller than that of a power law" in each.reasons[0]
            if each.verdict == "power law up to an end" and name == "clipped":
                assert each.sentence.endswith("and it ends at 50.")
                assert "equal, at 50: were they clipped?" in each.reasons[0]

    def at_least(count, rate):
        return scipy.stats.binom.cdf(count, 20, rate)

    def at_most(count, rate):
        return scipy.stats.binom.sf(count - 1, 20, rate)

    for name in ("ending", "clipped"):
        assert at_least(words[name], 0.6) > FALSE_ALARM_RATE, words
    assert at_least(words["endless"], 0.6) < FALSE_ALARM_RATE, words
    for name, rate in (("endless", 0.02), ("exponential", 0.001), ("gaussian", 0.001)):
        assert at_most(words[name], rate) > FALSE_ALARM_RATE, words


def test_the_comparison_of_fits_has_the_end():
    draws = truncated(0.99)[0](jax.random.key(5), (2000,))
    fits = hto.tail_index.compare_fits(
        draws, 200, alternatives=("truncated_power_law",)
    )
    found = fits["truncated_power_law"]
    top = np.sort(np.asarray(draws, np.float64))[::-1][:201]
    y = np.log(top[:200] / top[200])
    np.testing.assert_allclose(found.second, top[0] / top[200], rtol=1e-4)
    alpha = float(found.first)
    each = np.log(alpha) - alpha * y - np.log(-np.expm1(-alpha * y[0]))
    np.testing.assert_allclose(found.log_likelihood, each.sum(), rtol=1e-4)
    assert found.ratio < 0
