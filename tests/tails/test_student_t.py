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
from heavytail_optax.tails import _student_t

DEGREES = (0.5, 1.0, 1.4, 3.0, 30.0, 1e6)
LEVELS = np.asarray([1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
# df, and P(|T| > x) at these x: the incomplete beta function, and for df above 200 the
# integral of the density in log x, both by mpmath with 45 digits or more. Zero is below
# 1e-290.
FAR_POINTS = (1.0, 6.0, 30.0, 1e6)
FAR_VALUES = (
    (
        1e-06,
        0.9999923991265884,
        0.9999906073825864,
        0.9999889979610926,
        0.9999785838167234,
    ),
    (
        0.02,
        0.9484546677144439,
        0.9151575514235073,
        0.8861712107276106,
        0.7195485638541481,
    ),
    (
        0.5,
        0.6022432216826442,
        0.2613093774699988,
        0.1170936829801069,
        0.0006414019508283977,
    ),
    (
        3.0,
        0.3910022189557706,
        0.009272714892284668,
        8.135280427163959e-05,
        2.205315581679229e-18,
    ),
    (100.0, 0.3197241557841234, 3.172491502802857e-08, 8.380332558688292e-52, 0.0),
    (10000.0, 0.3173347043304292, 2.041618472922615e-09, 2.044327047425571e-189, 0.0),
    (
        1000000000.0,
        0.3173105081048848,
        1.973175964498492e-09,
        9.815419687967461e-198,
        0.0,
    ),
    (1e38, 0.3173105078629141, 1.973175290075396e-09, 9.813427854296374e-198, 0.0),
)
FAR_LEVELS = np.asarray([1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7])


def thresholds(df, levels):
    return scipy.stats.t.isf(np.asarray(levels) / 2, df)


@pytest.mark.parametrize("df", DEGREES)
def test_law_of_a_million_draws(df):
    tail = hto.tails.student_t(df)
    draws = eager_sample(tail, 1, (10**6,))
    p_values = [
        law_p_value(draws, lambda x: scipy.stats.t.cdf(x, df)),
        survival_p_value(np.abs(draws), thresholds(df, LEVELS), LEVELS),
        counts_p_value(np.count_nonzero(draws > 0), 10**6, tail.right_tail_weight),
    ]
    assert bonferroni(p_values) > FALSE_ALARM_RATE


def test_wrong_index_is_found():
    # Negative control: df off by two percent.
    draws = np.abs(eager_sample(hto.tails.student_t(1.4 * 1.02), 1, (10**6,)))
    p_value = survival_p_value(draws, thresholds(1.4, LEVELS), LEVELS)
    assert p_value < FALSE_ALARM_RATE


@pytest.mark.parametrize("df", [0.5, 1.0, 1.4, 3.0])
def test_law_beyond_one_in_four_billion(df, monkeypatch):
    """The far tail comes from a small radius word, which here is small always."""
    use_small_words(monkeypatch, _student_t)
    draws = np.abs(eager_sample(hto.tails.student_t(df), 2, (10**6,)))
    # Nothing with a larger word can be beyond this.
    start = np.sqrt(df * np.expm1(64.0 * np.log(2.0) / df))
    at = start * 10.0 ** (np.arange(5.0) / df)
    probabilities = 2.0**33 * scipy.stats.t.sf(at, df)
    assert probabilities[0] > 0.1
    assert survival_p_value(draws, at, probabilities) > FALSE_ALARM_RATE
    # Negative control: as if df were two percent larger from there on.
    wrong = start * (draws / start) ** (1 / 1.02)
    assert survival_p_value(wrong, at, probabilities) < FALSE_ALARM_RATE


@pytest.mark.parametrize("df", [0.3, 1.0, 1.4, 3.0, 1e6])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_largest_draw_is_reached_and_not_exceeded(dtype, df, monkeypatch):
    shape = use_extreme_words(monkeypatch, _student_t)
    tail = hto.tails.student_t(df)
    draws = eager_sample(tail, 0, shape, dtype)
    assert np.all(np.isfinite(draws))
    largest = tail.largest_draw(dtype)
    error = float(jnp.finfo(dtype).eps) + 300 * np.finfo(np.float32).eps
    np.testing.assert_allclose(np.abs(draws).max(), largest, rtol=error)
    if largest == float(jnp.finfo(dtype).max):
        assert np.abs(draws).max() == largest


def test_largest_draw_as_documented():
    largest = hto.tails.student_t(1.4).largest_draw()
    assert largest == pytest.approx(np.sqrt(1.4) * 2 ** (65 / 1.4))


@pytest.mark.parametrize("df", DEGREES)
def test_tail_probability_is_that_of_scipy(df):
    x = np.concatenate([[-3.0, 0.0], np.logspace(-3, 15, 200)])
    expected = np.where(x > 0, 2 * scipy.stats.t.sf(x, df), 1.0)
    tail = hto.tails.student_t(df)
    representable = expected > 1e-30
    np.testing.assert_allclose(
        tail.tail_probability(x)[representable], expected[representable], rtol=3e-5
    )
    with jax.enable_x64(True):
        got = tail.tail_probability(x)
    assert got.dtype == np.float64
    positive = expected > 1e-200
    np.testing.assert_allclose(got[positive], expected[positive], rtol=1e-11)


@pytest.mark.parametrize("dtype, rtol", [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_tail_probabilities_of_high_precision(dtype, rtol):
    """Up to the largest df, where `x^2 / df` is no normal number in float32."""
    with jax.enable_x64(dtype == np.float64):
        x = jnp.asarray(FAR_POINTS, dtype)
        probability = jax.jit(lambda df: hto.tails.student_t(df).tail_probability(x))
        for df, *expected in FAR_VALUES:
            got = np.asarray(probability(jnp.asarray(df, dtype)), float)
            smallest = 1e-30 if dtype == np.float32 else 1e-300
            np.testing.assert_allclose(
                got, expected, rtol=rtol, atol=smallest, err_msg=f"{df}"
            )


def test_cauchy_law_at_one_degree():
    x = np.logspace(-2, 15, 50)
    got = hto.tails.student_t(1.0).tail_probability(x)
    np.testing.assert_allclose(got, 2 / np.pi * np.arctan(1 / x), rtol=1e-5)


@pytest.mark.slow
def test_survival_of_two_hundred_million_draws():
    at = thresholds(1.4, FAR_LEVELS)
    counts = count_above(hto.tails.student_t(1.4).sample, 4, at, num_chunks=200)
    assert counts_p_value(counts, 200 * 2**20, FAR_LEVELS) > FALSE_ALARM_RATE
