import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadratics import CURVATURE, DATA, point, quadratic

from heavytail_optax.flatness import (
    PacBayesSettings,
    expected_sharpness,
    pac_bayes_sharpness,
)

TRACE = float(CURVATURE.sum())
# About one false alarm in 1e6 keys, by the normal law.
SIX_ERRORS = 6.0

at_minimum = functools.partial(pac_bayes_sharpness, quadratic, point(), args=DATA)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("target", [0.001, 0.1, 10.0])
def test_quadratic(target, signed):
    result = at_minimum(key=0, target=target, tolerance=1e-4, signed=signed)
    expected = TRACE / (2 * target)
    assert abs(result.sharpness - expected) < SIX_ERRORS * result.standard_error
    # Relative spread of the mean of `nu H nu / 2` over 100 samples.
    spread = np.sqrt(2 * np.sum(CURVATURE**2)) / TRACE / 10
    np.testing.assert_allclose(
        result.standard_error / result.sharpness, spread, rtol=0.4
    )
    np.testing.assert_allclose(result.sigma**-2, result.sharpness, rtol=1e-5)
    relative = 2 * result.sigma_standard_error / result.sigma
    np.testing.assert_allclose(
        relative, result.standard_error / result.sharpness, rtol=1e-4
    )
    assert not result.search.hit_lower and not result.search.hit_upper


def test_the_error_bar_covers_other_keys():
    results = [at_minimum(key=seed) for seed in range(40)]
    sharpness = np.asarray([result.sharpness for result in results])
    errors = np.asarray([result.standard_error for result in results])
    # The spread of a standard deviation over 40 keys is 11 %.
    np.testing.assert_allclose(sharpness.std(ddof=1), errors.mean(), rtol=0.5)


def test_the_deviation_at_sigma_is_the_expected_sharpness():
    result = at_minimum(key=1, target=0.2)
    np.testing.assert_allclose(result.deviation, 0.2, rtol=0.02)
    assert result.deviation <= 0.2
    other = expected_sharpness(
        quadratic, point(), key=2, args=DATA, stddev=result.sigma, num_samples=2000
    )
    difference = abs(result.deviation - other.mean)
    error = np.hypot(result.deviation_standard_error, other.standard_error)
    assert difference < SIX_ERRORS * error


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_magnitude_aware(floor):
    params = point() | {"b": jnp.linspace(0.5, 2.0, 20)}
    slope = jnp.concatenate([jnp.zeros(10), -DATA[0][10:] * params["b"]])
    result = pac_bayes_sharpness(
        quadratic,
        params,
        key=0,
        args=(DATA[0], slope),
        adaptive=True,
        floor=floor,
        num_samples=1000,
    )
    weights = np.concatenate([np.zeros(10), np.linspace(0.5, 2.0, 20)])
    variance = (0.1 * 2 - floor**2 * TRACE) / np.sum(CURVATURE * weights**2)
    error = result.sigma_standard_error + 0.01 * result.sigma
    assert abs(result.sigma - np.sqrt(variance)) < SIX_ERRORS * error


def test_bounds_are_told():
    above = at_minimum(key=0, lower=1e-5, upper=1e-3)
    assert above.search.hit_upper and not above.search.hit_lower
    np.testing.assert_allclose(above.sigma, 1e-3)
    assert above.search.num_evaluations == 1 + 100
    assert np.isnan(above.standard_error)
    below = at_minimum(key=0, lower=1.0, upper=10.0)
    assert below.search.hit_lower and not below.search.hit_upper
    np.testing.assert_allclose(below.sigma, 1.0)
    assert below.deviation > 0.1


def test_the_share_of_errors_as_the_loss():
    """A step function of the weights: nothing is differentiated."""

    def errors(threshold, values):
        return jnp.mean((values > threshold).astype(jnp.float32))

    # The values lie in (0, 1), so a threshold of 1 has no errors, and noise nu < 0 has
    # the share |nu|: the mean is sigma / sqrt(2 pi).
    values = jnp.linspace(0.0, 1.0, 2001)[1:-1]
    result = pac_bayes_sharpness(
        errors, jnp.asarray(1.0), key=0, args=(values,), num_samples=10_000, upper=0.2,
        target=0.02,
    )  # fmt: skip
    expected = 0.02 * np.sqrt(2 * np.pi)
    error = result.sigma_standard_error + 0.01 * expected
    assert abs(result.sigma - expected) < SIX_ERRORS * error


def test_settings_and_cost_are_in_the_result():
    num_calls = 0

    def count(params):
        nonlocal num_calls
        num_calls += 1

    def loss(params):
        jax.debug.callback(count, params["b"])
        return jnp.sum(params["b"] ** 2)

    result = pac_bayes_sharpness(loss, point(), key=0, num_samples=3, samples_at_once=1)
    jax.effects_barrier()
    assert num_calls == result.search.num_evaluations
    assert result.settings == PacBayesSettings(
        0.1, 1e-5, 10.0, 0.01, 3, signed=True, adaptive=False, floor=0.0
    )


def test_under_jit():
    eager = at_minimum(key=jax.random.key(3))
    measure = jax.jit(functools.partial(pac_bayes_sharpness, quadratic))
    compiled = measure(point(), key=jax.random.key(3), args=DATA)
    np.testing.assert_allclose(eager.sharpness, compiled.sharpness, rtol=0.02)
    # Not a loss at all: beyond the target from the start.
    bad = measure(point(np.nan), key=jax.random.key(3), args=DATA)
    assert bad.search.hit_lower
