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
from heavytail_optax.tails import _gaussian

TAIL = hto.tails.gaussian()
LEVELS = np.asarray([1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
FAR_LEVELS = np.asarray([1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7])


def thresholds(levels):
    return scipy.stats.norm.isf(np.asarray(levels) / 2)


def test_law_of_a_million_draws():
    draws = eager_sample(TAIL, 1, (10**6,))
    p_values = [
        law_p_value(draws, scipy.stats.norm.cdf),
        survival_p_value(np.abs(draws), thresholds(LEVELS), LEVELS),
        counts_p_value(np.count_nonzero(draws > 0), 10**6, TAIL.right_tail_weight),
    ]
    assert bonferroni(p_values) > FALSE_ALARM_RATE


def test_wrong_width_is_found():
    # Negative control: a standard deviation off by two percent.
    draws = 1.02 * eager_sample(TAIL, 1, (10**6,))
    assert law_p_value(draws, scipy.stats.norm.cdf) < FALSE_ALARM_RATE
    p_value = survival_p_value(np.abs(draws), thresholds(LEVELS), LEVELS)
    assert p_value < FALSE_ALARM_RATE


def test_law_beyond_one_in_four_billion(monkeypatch):
    """Given that the high word is zero, the tail is 2^32 times as thick."""
    use_small_words(monkeypatch, _gaussian)
    size = np.abs(eager_sample(TAIL, 2, (10**6,)))
    assert size.min() > 6.2

    def cdf(x):
        return np.maximum(1.0 - 2.0**33 * scipy.stats.norm.sf(x), 0.0)

    assert law_p_value(size, cdf) > FALSE_ALARM_RATE
    # Negative control: a thousandth more.
    assert law_p_value(1.001 * size, cdf) < FALSE_ALARM_RATE


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_largest_draw_is_reached_and_not_exceeded(dtype, monkeypatch):
    shape = use_extreme_words(monkeypatch, _gaussian)
    draws = eager_sample(TAIL, 0, shape, dtype)
    assert np.all(np.isfinite(draws))
    largest = TAIL.largest_draw(dtype)
    np.testing.assert_allclose(np.abs(draws).max(), largest, rtol=jnp.finfo(dtype).eps)
    np.testing.assert_allclose(largest, -scipy.stats.norm.ppf(2.0**-65), rtol=1e-6)
    # `jax.random.normal` ends at 5.4.
    assert largest > 9.0


def test_tail_probability_is_that_of_scipy():
    x = np.concatenate([[-3.0, 0.0], np.logspace(-3, np.log10(38), 200)])
    expected = np.where(x > 0, 2 * scipy.stats.norm.sf(x), 1.0)
    near = x < 12
    np.testing.assert_allclose(
        TAIL.tail_probability(x)[near], expected[near], rtol=2e-5
    )
    with jax.enable_x64(True):
        got = TAIL.tail_probability(x)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_quantile_is_that_of_scipy():
    p = np.concatenate([np.logspace(-30, -1, 60), np.linspace(0.1, 0.99, 50)])
    expected = scipy.stats.norm.ppf(p)
    np.testing.assert_allclose(TAIL.quantile(p), expected, rtol=1e-5, atol=1e-6)
    with jax.enable_x64(True):
        got = TAIL.quantile(p)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)
    assert TAIL.quantile(0.0) == -np.inf and TAIL.quantile(1.0) == np.inf


@pytest.mark.slow
def test_survival_of_two_hundred_million_draws():
    at = thresholds(FAR_LEVELS)
    counts = count_above(TAIL.sample, 4, at, num_chunks=200)
    assert counts_p_value(counts, 200 * 2**20, FAR_LEVELS) > FALSE_ALARM_RATE


@pytest.mark.slow
def test_wrong_width_is_found_far_out():
    # Negative control: half a percent.
    at = thresholds(FAR_LEVELS)

    def wide(key, shape):
        return 1.005 * TAIL.sample(key, shape)

    counts = count_above(wide, 4, at, num_chunks=200)
    assert counts_p_value(counts, 200 * 2**20, FAR_LEVELS) < FALSE_ALARM_RATE
