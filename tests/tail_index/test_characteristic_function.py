"""Stable fits: parameters recovered, equivariance, and the standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto

fit = hto.tail_index.characteristic_function


@pytest.mark.parametrize(
    ("alpha", "beta"),
    [
        pytest.param(0.8, 0.0, marks=pytest.mark.slow),
        pytest.param(1.0, 0.0, marks=pytest.mark.slow),
        (1.5, 0.5),
        pytest.param(1.9, 0.0, marks=pytest.mark.slow),
    ],
)
def test_parameters_and_their_errors(alpha, beta):
    draws = hto.tails.alpha_stable(alpha, beta).sample(jax.random.key(0), (200, 2000))
    got = fit(3.0 * draws + 7.0)
    # S0's location is S1's, plus beta c tan(pi alpha / 2).
    away = beta * np.tan(np.pi * alpha / 2) if beta else 0.0
    for name, truth in (
        ("estimate", alpha),
        ("beta", beta),
        ("scale", 3.0),
        ("location", 7.0 + 3.0 * away),
    ):
        values = np.asarray(getattr(got, name), np.float64)
        prefix = "" if name == "estimate" else f"{name}_"
        errors = np.asarray(getattr(got, f"{prefix}standard_error"))
        spread = values.std()
        # Six standard errors of the mean, and the bias of 2,000 draws.
        assert abs(values.mean() - truth) < 6 * spread / 200**0.5 + 0.01, name
        np.testing.assert_allclose(spread, errors.mean(), rtol=0.3, err_msg=name)


@pytest.mark.slow
def test_the_interval_stays_within_the_family():
    draws = hto.tails.gaussian().sample(jax.random.key(1), (50, 1000))
    got = fit(draws)
    assert (got.estimate <= 2.0).all()
    assert (got.upper <= 2.0).all()
    np.testing.assert_allclose(got.scale, 0.5**0.5, rtol=0.15)


@pytest.mark.slow
def test_a_student_law_is_taken_for_a_stable_one():
    draws = hto.tails.student_t(3.0).sample(jax.random.key(2), (100_000,))
    got = fit(draws)
    assert got.upper < 1.8  # the tail index is 3


def test_axes():
    draws = hto.tails.alpha_stable(1.5).sample(jax.random.key(3), (2, 2000, 3))
    got = fit(draws, axis=1)
    assert got.estimate.shape == (2, 3)
    alone = fit(draws[1, :, 2])
    np.testing.assert_allclose(got.estimate[1, 2], alone.estimate, rtol=1e-4)
    assert jnp.isfinite(got.beta_standard_error).all()


def reference(draws):
    """(alpha, beta, scale, location) by the formulas of the docstring, in float64."""
    draws = np.asarray(draws, np.float64)
    low, centre, high = np.quantile(draws, [0.25, 0.5, 0.75])
    unit = (high - low) / 2
    t = 0.1 * np.arange(1, 11)
    for _ in range(2):
        turns = np.exp(1j * t[:, None] * (draws - centre) / unit).mean(axis=1)
        log_modulus = np.log(-np.log(np.abs(turns)))
        alpha, intercept = np.polyfit(np.log(t), log_modulus, 1)
        scale = np.exp(intercept / alpha)
        # Beyond 1.999 the skewness has next to no effect.
        index = np.clip(alpha, 0.05, 1.999)
        term = np.tan(np.pi * index / 2) * ((scale * t) ** index - scale * t)
        columns = np.stack([t, term], axis=1)
        location, beta = np.linalg.lstsq(columns, np.unwrap(np.angle(turns)))[0]
        found = alpha, beta, scale * unit, centre + unit * location
        centre += unit * np.clip(location, -2, 2)
        unit *= np.clip(scale, np.exp(-2), np.exp(2))
    return np.asarray(found)


def estimates(result):
    return np.asarray([result.estimate, result.beta, result.scale, result.location])


SKEWED = np.asarray(
    hto.tails.alpha_stable(1.5, 0.5).sample(jax.random.key(4), (5000,)), np.float64
)


@pytest.mark.parametrize("location", [0.0, 0.1, -1e4, 1e7, 1e12])
def test_the_location_of_float64_draws_costs_no_digits(location):
    draws = SKEWED + location
    result = fit(draws)
    assert result.estimate.dtype == jnp.float32
    expected = reference(draws)
    # Of the location, what float32 holds of it.
    roundings = np.asarray([2e-5, 2e-5, 2e-5, 2e-5 + 1e-7 * abs(location)])
    assert (abs(estimates(result) - expected) < roundings).all()
    alone = fit(SKEWED)
    for field in ("standard_error", "beta_standard_error", "scale_standard_error"):
        np.testing.assert_allclose(
            getattr(result, field), getattr(alone, field), rtol=1e-4
        )
    # Lists are float64, too, and a batch is centred row by row.
    np.testing.assert_array_equal(fit(draws.tolist()).estimate, result.estimate)
    both = fit(np.stack([draws, SKEWED]))
    np.testing.assert_allclose(both.estimate, [result.estimate] * 2, atol=2e-5)


def test_draws_that_are_float32_already_are_taken_as_they_are():
    draws = jnp.asarray(SKEWED + 1e7)
    expected = reference(draws)
    np.testing.assert_allclose(fit(draws).estimate, expected[0], atol=2e-5)
    # Rounded to whole numbers, they are not the draws that they were.
    assert abs(expected[0] - reference(SKEWED)[0]) > 0.005


@pytest.mark.parametrize("value", [0.0, 0.1, 1e7])
def test_draws_that_share_one_number(value):
    """Up to half of them the fit is what it says; from there on it is NaN."""
    centred = SKEWED - np.median(SKEWED)
    order = np.argsort(abs(centred))  # those in the middle
    for share, is_number in ((0.3, True), (0.48, True), (0.52, False), (0.9, False)):
        draws = centred.copy()
        draws[order[: round(share * draws.size)]] = 0.0
        result = fit(draws + value)
        if is_number:
            expected = reference(draws + value)
            np.testing.assert_allclose(
                estimates(result), expected, rtol=2e-4, atol=2e-5
            )
        else:
            assert all(np.isnan(x) for x in result)
    # One row of a batch does not spoil the other; float32 draws are treated alike.
    batch = jnp.asarray(np.stack([draws, centred]) + value, jnp.float32)
    assert np.isnan(fit(batch).estimate).tolist() == [True, False]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_draw_that_is_not_finite_gives_nan(bad):
    for dtype in (np.float32, np.float64):
        draws = SKEWED.astype(dtype)
        draws[17] = bad
        assert all(np.isnan(x) for x in fit(draws))
