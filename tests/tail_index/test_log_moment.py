"""The log-moment estimator: right for stable laws, and how it fails for others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from statistical_checks import FALSE_ALARM_RATE, means_p_value

import heavytail_optax as hto

log_moment = hto.tail_index.log_moment


def test_the_formula():
    draws = np.random.default_rng(0).standard_cauchy((3, 103))
    blocks = draws[:, :100].reshape(3, 10, 10)
    inverse = (
        np.log(np.abs(blocks.sum(axis=-1))).mean(axis=-1)
        - np.log(np.abs(blocks)).mean(axis=(1, 2))
    ) / np.log(10)
    got = log_moment(jnp.asarray(draws, jnp.float32))
    np.testing.assert_allclose(got.estimate, 1 / inverse, rtol=1e-4)
    assert (got.block_size == 10).all()
    assert (got.num_blocks == 10).all()
    again = log_moment(jnp.asarray(draws[:, :100], jnp.float32), 10)
    np.testing.assert_array_equal(again.estimate, got.estimate)


@pytest.mark.parametrize(
    "alpha",
    [
        pytest.param(0.8, marks=pytest.mark.slow),
        1.5,
        pytest.param(2.0, marks=pytest.mark.slow),
    ],
)
def test_stable_laws(alpha):
    draws = hto.tails.alpha_stable(alpha).sample(jax.random.key(1), (400, 2500))
    got = log_moment(draws)
    inverse = 1 / np.asarray(got.estimate, np.float64)[:, None]
    assert means_p_value(inverse, [1 / alpha]) > FALSE_ALARM_RATE
    assert means_p_value(inverse, [1 / alpha + 0.03]) < FALSE_ALARM_RATE
    error = got.standard_error / got.estimate**2
    np.testing.assert_allclose(inverse.std(), error.mean(), rtol=0.15)


# A law of finite variance v: 1/2 + (E log|N(0, v)| - E log|X|) / log(m), up to the
# error of the normal limit.
MEAN_LOG_NORMAL = -(np.euler_gamma + np.log(2)) / 2


def laplace(key, shape):
    return jax.random.laplace(key, shape)


def uniform(key, shape):
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


LIGHT = {
    "laplace": (laplace, 0.5 * np.log(2), -np.euler_gamma),
    "uniform": (uniform, -0.5 * np.log(3), -1.0),
    "gaussian": (hto.tails.gaussian().sample, 0.0, MEAN_LOG_NORMAL),
}


@pytest.mark.slow  # Four million draws each.
@pytest.mark.parametrize("name", LIGHT)
def test_the_answer_for_light_tails(name):
    sample, log_deviation, mean_log = LIGHT[name]
    draws = sample(jax.random.key(2), (400, 10_000))
    inverse = 1 / np.asarray(log_moment(draws).estimate, np.float64)[:, None]
    expected = 0.5 + (MEAN_LOG_NORMAL + log_deviation - mean_log) / np.log(100)
    assert means_p_value(inverse, [expected], 1e-3) > FALSE_ALARM_RATE


def test_laplace_is_said_to_be_heavy_tailed():
    """All moments are finite, and the interval is below 2: the known failure."""
    got = log_moment(laplace(jax.random.key(3), (1_000_000,)), 100)
    assert got.upper < 2.0
    np.testing.assert_allclose(got.estimate, 1.78, atol=0.02)


def test_a_student_law_of_index_three_is_given_an_index_below_two():
    draws = hto.tails.student_t(3.0).sample(jax.random.key(4), (1_000_000,))
    got = log_moment(draws, 100)
    assert got.upper < 2.0


def test_zero_has_no_logarithm():
    assert jnp.isnan(log_moment(jnp.ones(100).at[3].set(0.0)).estimate)
