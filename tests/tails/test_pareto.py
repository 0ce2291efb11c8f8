import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from statistical_checks import (
    FALSE_ALARM_RATE,
    bonferroni,
    count_above,
    counts_p_value,
    law_p_value,
    survival_p_value,
)
from word_sources import eager_sample, use_extreme_words, use_small_words

import heavytail_optax as hto
from heavytail_optax.tails import _pareto

FACTORIES = (hto.tails.pareto, hto.tails.lomax, hto.tails.symmetric_pareto)
ALPHAS = (0.3, 1.0, 1.4, 2.5)
LEVELS = np.asarray([1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
FAR_LEVELS = np.asarray([1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7])


def two_sided(factory, alpha, x):
    """`P(|Z| > x)`, by SciPy."""
    law = scipy.stats.lomax if factory is hto.tails.lomax else scipy.stats.pareto
    return law.sf(x, alpha)


def thresholds(factory, alpha, levels):
    law = scipy.stats.lomax if factory is hto.tails.lomax else scipy.stats.pareto
    return law.isf(levels, alpha)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("factory", FACTORIES)
def test_law_of_a_million_draws(factory, alpha):
    draws = eager_sample(factory(alpha), 1, (10**6,))
    p_values = [
        law_p_value(np.abs(draws), lambda x: 1.0 - two_sided(factory, alpha, x)),
        survival_p_value(np.abs(draws), thresholds(factory, alpha, LEVELS), LEVELS),
    ]
    if factory is hto.tails.symmetric_pareto:
        share = factory(alpha).right_tail_weight
        p_values.append(counts_p_value(np.count_nonzero(draws > 0), 10**6, share))
        far = thresholds(factory, alpha, 1e-3)
        right, both = np.count_nonzero(draws > far), np.count_nonzero(abs(draws) > far)
        p_values.append(counts_p_value(right, both, share))
    else:
        assert draws.min() >= (1.0 if factory is hto.tails.pareto else 0.0)
    assert bonferroni(p_values) > FALSE_ALARM_RATE


def test_wrong_index_is_found():
    # Negative control: alpha off by two percent.
    draws = np.abs(eager_sample(hto.tails.symmetric_pareto(1.4 * 1.02), 1, (10**6,)))
    at = thresholds(hto.tails.pareto, 1.4, LEVELS)
    assert survival_p_value(draws, at, LEVELS) < FALSE_ALARM_RATE
    assert law_p_value(draws, lambda x: 1 - x**-1.4) < FALSE_ALARM_RATE


@pytest.mark.parametrize("alpha", [0.9, 1.4, 3.0])
@pytest.mark.parametrize("factory", FACTORIES)
def test_law_beyond_one_in_four_billion(factory, alpha, monkeypatch):
    """Given that the high word is zero, `|Z| / 2^(32/alpha)` is Pareto again."""
    use_small_words(monkeypatch, _pareto)
    draws = np.abs(eager_sample(factory(alpha), 2, (10**6,)))
    if factory is hto.tails.lomax:
        draws = draws + 1.0
    scaled = draws / 2.0 ** (32.0 / alpha)
    assert scaled.min() >= 1.0 - 1e-5
    p_value = law_p_value(scaled, lambda x: -np.expm1(-alpha * np.log(x)))
    assert p_value > FALSE_ALARM_RATE


def test_coarse_uniforms_are_found():
    # Negative control: 23 bits, as in `jax.random.pareto`, given that 20 are zero.
    draws = jax.random.pareto(jax.random.key(3), 1.4, (4 * 10**6,))
    assert draws.max() <= 2.0 ** (23 / 1.4) * (1 + 1e-5)
    few_bits = jax.random.bits(jax.random.key(3), (10**6,)) >> jnp.uint32(29)
    scaled = ((np.asarray(few_bits, float) + 1.0) / 2.0**3) ** (-1 / 1.4)
    p_value = law_p_value(scaled, lambda x: 1.0 - x**-1.4)
    assert p_value < FALSE_ALARM_RATE


@pytest.mark.parametrize("alpha", [0.2, 0.7, 1.4, 3.0])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("factory", FACTORIES)
def test_largest_draw_is_reached_and_not_exceeded(factory, dtype, alpha, monkeypatch):
    shape = use_extreme_words(monkeypatch, _pareto)
    tail = factory(alpha)
    draws = np.abs(eager_sample(tail, 0, shape, dtype))
    assert np.all(np.isfinite(draws))
    largest = tail.largest_draw(dtype)
    # Rounded to the dtype, and with the error of `exp` at 65 ln 2 / alpha.
    error = float(jnp.finfo(dtype).eps) + 200 * np.finfo(np.float32).eps
    np.testing.assert_allclose(draws.max(), largest, rtol=error)
    if largest == float(jnp.finfo(dtype).max):
        assert draws.max() == largest
    smallest = 0.0 if factory is hto.tails.lomax else 1.0
    assert draws.min() == smallest


def test_largest_draw_as_documented():
    assert hto.tails.pareto(1.4).largest_draw() == pytest.approx(2 ** (65 / 1.4))
    assert hto.tails.lomax(1.4).largest_draw() == pytest.approx(2 ** (65 / 1.4))
    symmetric = hto.tails.symmetric_pareto(1.4)
    assert symmetric.largest_draw() == pytest.approx(2 ** (64 / 1.4))
    assert symmetric.largest_draw(jnp.float16) == 65504.0
    assert hto.tails.pareto(0.01).largest_draw() == np.finfo(np.float32).max


@pytest.mark.parametrize("factory", FACTORIES)
def test_tail_probability_is_that_of_scipy(factory):
    x = np.concatenate([[-3.0, 0.0, 0.5, 1.0], np.logspace(-3, 30, 200)])
    for alpha in ALPHAS:
        expected = two_sided(factory, alpha, x)
        got = factory(alpha).tail_probability(x)
        representable = expected > 1e-37
        # exp(-y) in float32 has the relative error of y times its rounding.
        np.testing.assert_allclose(
            got[representable], expected[representable], rtol=2e-5
        )
        with jax.enable_x64(True):
            got = factory(alpha).tail_probability(x)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("factory", FACTORIES)
def test_quantile_inverts_the_law(factory):
    p = np.concatenate([np.logspace(-12, -1, 30), np.linspace(0.1, 0.999999, 50)])
    for alpha in ALPHAS:
        if factory is hto.tails.symmetric_pareto:
            size = scipy.stats.pareto.isf(np.minimum(2 * p, 2 * (1 - p)), alpha)
            expected = np.where(p > 0.5, size, -size)
        elif factory is hto.tails.lomax:
            expected = scipy.stats.lomax.ppf(p, alpha)
        else:
            expected = scipy.stats.pareto.ppf(p, alpha)
        with jax.enable_x64(True):
            got = factory(alpha).quantile(p)
        np.testing.assert_allclose(got, expected, rtol=1e-9)
        # In float32 the argument itself is rounded: no closer than that to one.
        middle = (p < 0.99) & (np.abs(expected) < 1e38)
        got = factory(alpha).quantile(p[middle])
        np.testing.assert_allclose(got, expected[middle], rtol=1e-4)


@pytest.mark.parametrize("factory", FACTORIES)
def test_quantile_at_the_ends(factory):
    tail = factory(1.4)
    assert tail.quantile(1.0) == np.inf
    start = {
        hto.tails.pareto: 1.0,
        hto.tails.lomax: 0.0,
        hto.tails.symmetric_pareto: -np.inf,
    }
    assert tail.quantile(0.0) == start[factory]
    assert np.isnan(tail.quantile(-0.1)) and np.isnan(tail.quantile(1.1))


@pytest.mark.slow
@pytest.mark.parametrize("factory", FACTORIES)
def test_survival_of_two_hundred_million_draws(factory):
    at = thresholds(factory, 1.4, FAR_LEVELS)
    counts = count_above(factory(1.4).sample, 4, at, num_chunks=200)
    assert counts_p_value(counts, 200 * 2**20, FAR_LEVELS) > FALSE_ALARM_RATE


@pytest.mark.slow
def test_truncated_tail_is_found_by_two_hundred_million_draws():
    # Negative control: nothing beyond 2^(23/1.4), though all is well up to 1e-6.
    at = thresholds(hto.tails.pareto, 1.4, FAR_LEVELS)

    def truncated(key, shape):
        return jax.random.pareto(key, 1.4, shape)

    counts = count_above(truncated, 4, at, num_chunks=200)
    assert counts_p_value(counts, 200 * 2**20, FAR_LEVELS) < FALSE_ALARM_RATE
