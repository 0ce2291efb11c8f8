import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import statistical_checks as checks
from quadratics import CURVATURE, DATA, SLOPE, point, quadratic

from heavytail_optax.flatness import expected_sharpness

RATE = checks.FALSE_ALARM_RATE
TRACE = float(CURVATURE.sum())
# One number, so that one compiled program serves several tests.
DRAWS = 10_000


def p_value(result, expected):
    """Of the mean being right, by the normal law."""
    distance = abs(float(result.mean) - expected) / float(result.standard_error)
    return 2.0 * scipy.stats.norm.sf(distance)


@pytest.mark.parametrize("signed", [False, True])
def test_quadratic_at_its_minimum(signed):
    result = expected_sharpness(
        quadratic,
        point(),
        key=1,
        args=DATA,
        stddev=0.1,
        num_samples=DRAWS,
        signed=signed,
    )
    expected = 0.1**2 * TRACE / 2
    # The variance of the change is delta^4 tr(H^2) / 2.
    error = 0.1**2 * np.sqrt(np.sum(CURVATURE**2) / 2 / DRAWS)
    np.testing.assert_allclose(result.standard_error, error, rtol=0.1)
    assert p_value(result, expected) > RATE
    # The check has teeth: a curvature 10 % larger is told apart.
    assert p_value(result, 1.1 * expected) < RATE


def test_signed_is_exact_off_the_minimum_and_the_absolute_value_is_not():
    measure = functools.partial(
        expected_sharpness,
        quadratic,
        point(0.5),
        key=2,
        args=(DATA[0], SLOPE),
        stddev=0.1,
        num_samples=DRAWS,
    )
    expected = 0.1**2 * TRACE / 2
    assert p_value(measure(signed=True), expected) > RATE
    assert p_value(measure(), expected) < RATE


def test_absolute_change_of_a_linear_loss():
    """`g nu` is normal: its mean absolute value is `delta |g| sqrt(2 / pi)`."""
    result = expected_sharpness(
        quadratic,
        point(),
        key=3,
        args=(jnp.zeros(30), SLOPE),
        stddev=0.3,
        num_samples=DRAWS,
    )
    size = 0.3 * np.linalg.norm(np.linspace(-1, 1, 30))
    assert p_value(result, size * np.sqrt(2 / np.pi)) > RATE
    assert p_value(result, 1.05 * size * np.sqrt(2 / np.pi)) < RATE


@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_adaptive_noise_is_in_proportion_to_the_weights(floor):
    params = {
        "a": jnp.linspace(-2.0, 2.0, 10).reshape(2, 5),
        "b": jnp.linspace(0, 1, 20),
    }
    result = expected_sharpness(
        quadratic,
        params,
        key=4,
        args=DATA,
        stddev=0.1,
        num_samples=DRAWS,
        signed=True,
        adaptive=True,
        floor=floor,
    )
    w = np.concatenate([np.linspace(-2, 2, 10), np.linspace(0, 1, 20)])
    expected = np.sum(CURVATURE * (0.1**2 * w**2 + floor**2)) / 2
    assert p_value(result, expected) > RATE
    assert p_value(result, 1.5 * expected) < RATE


def two_layers(params, inputs):
    hidden = jax.nn.relu(inputs @ params["first"])
    return jnp.mean((hidden @ params["second"] - 1.0) ** 2)


def test_adaptive_sharpness_does_not_see_a_rescaling():
    """A factor moved from one layer of a ReLU network to the next changes nothing."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "first": jax.random.normal(keys[0], (4, 8)),
        "second": jax.random.normal(keys[1], (8, 2)),
    }
    scaled = {"first": 8.0 * params["first"], "second": params["second"] / 8.0}
    inputs = (jax.random.normal(keys[2], (16, 4)),)
    measure = functools.partial(expected_sharpness, two_layers, args=inputs)
    adaptive = [measure(p, key=0, adaptive=True).mean for p in (params, scaled)]
    np.testing.assert_allclose(*adaptive, rtol=1e-4)
    plain = [measure(p, key=0).mean for p in (params, scaled)]
    assert abs(plain[1] / plain[0] - 1.0) > 0.5


def test_samples_at_once_and_the_order_of_them_change_nothing():
    measure = functools.partial(
        expected_sharpness, quadratic, point(0.5), key=5, args=DATA, num_samples=17
    )
    reference = measure(samples_at_once=1)
    for at_once in (None, 5):
        np.testing.assert_allclose(
            measure(samples_at_once=at_once), reference, rtol=1e-4
        )


def few_draws(params, key, stddev=0.01):
    return expected_sharpness(
        quadratic, params, key=key, args=DATA, stddev=stddev, num_samples=10
    )


compiled = jax.jit(few_draws)


def test_under_jit_and_vmap():
    keys = jax.random.split(jax.random.key(6), 3)
    eager = few_draws(point(0.5), keys[1], 0.1)
    np.testing.assert_allclose(eager, compiled(point(0.5), keys[1], 0.1), rtol=1e-4)
    many = jax.jit(jax.vmap(few_draws, (None, 0, None)))(point(0.5), keys, 0.1)
    np.testing.assert_allclose(many.mean[1], eager.mean, rtol=1e-4)


def test_traced_values_that_are_bad_give_nan():
    key = jax.random.key(0)
    for stddev in (0.0, -1.0, jnp.nan):
        assert np.isnan(compiled(point(), key, stddev).mean)
    bad = point() | {"b": jnp.full(20, jnp.nan)}
    assert np.isnan(compiled(bad, key, 0.1).mean)
    assert np.isfinite(compiled(point(), key, 0.1).mean)


def test_the_same_program_serves_every_call():
    num_traces = 0

    def loss(params):
        nonlocal num_traces
        num_traces += 1
        return jnp.sum(params**2)

    first = expected_sharpness(loss, jnp.ones(3), key=0)
    traces_of_one_call = num_traces
    second = expected_sharpness(loss, 2.0 * jnp.ones(3), key=1, stddev=0.02)
    # Of the second call, shapes only are computed.
    assert num_traces - traces_of_one_call <= 2
    assert first.mean != second.mean


@pytest.mark.parametrize("kind", ["integer", "legacy", "typed"])
def test_every_kind_of_key(kind):
    key = {"integer": 7, "legacy": jax.random.PRNGKey(7), "typed": jax.random.key(7)}
    result = expected_sharpness(quadratic, point(), key=key[kind], args=DATA)
    reference = expected_sharpness(quadratic, point(), key=7, args=DATA)
    assert result == reference
    assert result != expected_sharpness(quadratic, point(), key=8, args=DATA)


def test_half_precision_leaves_keep_their_dtype():
    seen = {}

    def loss(params):
        seen.update(jax.tree.map(lambda x: x.dtype, params))
        return sum(jnp.sum(x.astype(jnp.float32) ** 2) for x in params.values())

    params = {"half": jnp.ones(300, jnp.bfloat16), "single": jnp.ones(3)}
    result = expected_sharpness(
        loss, params, key=0, stddev=0.1, num_samples=2000, signed=True
    )
    assert seen == {"half": jnp.bfloat16, "single": jnp.float32}
    assert result.mean.dtype == result.standard_error.dtype == jnp.float32
    # The rounding adds its own variance, 2^-18 / 3 or so, to 0.1^2.
    assert p_value(result, 303 * 0.1**2) > RATE

    def half_loss(params):
        return loss(params).astype(jnp.bfloat16)

    assert expected_sharpness(half_loss, params, key=0).mean.dtype == jnp.float32


def test_double_precision():
    with jax.enable_x64(True):
        result = expected_sharpness(
            lambda w: jnp.sum(w**2), jnp.zeros(3, jnp.float64), key=0, stddev=1e-9
        )
        assert result.mean.dtype == np.float64
        assert 0.0 < float(result.mean) < 1e-16


def test_one_sample_has_no_error_bar():
    result = expected_sharpness(quadratic, point(), key=0, args=DATA, num_samples=1)
    assert np.isfinite(result.mean)
    assert np.isnan(result.standard_error)


def test_a_loss_that_cannot_be_hashed():
    class Loss:
        __hash__ = None

        def __call__(self, params):
            return jnp.sum(params**2)

    result = expected_sharpness(Loss(), jnp.ones(3), key=0)
    assert result == expected_sharpness(lambda w: jnp.sum(w**2), jnp.ones(3), key=0)


def test_none_leaves_and_sharded_data():
    params = {"a": jnp.ones(3), "b": None}
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    data = jnp.arange(24.0).reshape(8, 3)

    def loss(params, data):
        return jnp.mean((data @ params["a"]) ** 2)

    one = expected_sharpness(loss, params, key=0, args=(data,))
    many = expected_sharpness(loss, params, key=0, args=(jax.device_put(data, spread),))
    np.testing.assert_allclose(one, many, rtol=1e-4)
