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
