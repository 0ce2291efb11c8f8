import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadratics import CURVATURE, DATA, SLOPE, point, quadratic

from heavytail_optax.flatness import MaximalSettings, maximal_sharpness

at_minimum = functools.partial(
    maximal_sharpness, quadratic, point(), args=DATA, tolerance=1e-4, num_steps=200
)


@pytest.mark.parametrize("target", [0.001, 0.1, 10.0])
def test_quadratic_in_a_ball(target):
    result = at_minimum(key=0, target=target)
    np.testing.assert_allclose(
        result.sharpness, CURVATURE.max() / (2 * target), rtol=2e-3
    )
    assert result.deviation <= target
    np.testing.assert_allclose(result.deviation, target, rtol=1e-3)
    np.testing.assert_allclose(result.radius**-2, result.sharpness, rtol=1e-5)
    assert not result.search.hit_lower and not result.search.hit_upper


def test_few_steps_give_a_bound_that_more_steps_and_restarts_tighten():
    few = at_minimum(key=0, num_steps=1)
    restarted = at_minimum(key=0, num_steps=1, num_restarts=20)
    many = at_minimum(key=0)
    exact = CURVATURE.max() / 0.2
    assert few.sharpness < restarted.sharpness < many.sharpness < exact * 1.001
    assert few.sharpness < 0.8 * exact  # the ascent is what finds the maximum
    steps = 2 + np.ceil(np.log2(np.log(10.0 / 1e-5) / np.log1p(1e-4)))
    assert abs(many.search.num_evaluations / 200 - steps) <= 1
    assert restarted.search.num_evaluations == 20 * many.search.num_evaluations / 200


def test_quadratic_in_a_box():
    """The largest value of a sum of convex functions of one entry is at a corner."""
    result = at_minimum(key=0, order=math.inf)
    np.testing.assert_allclose(result.sharpness, CURVATURE.sum() / 0.2, rtol=1e-3)


@pytest.mark.parametrize("order", [2, math.inf])
def test_linear(order):
    result = maximal_sharpness(
        quadratic,
        point(),
        key=0,
        args=(jnp.zeros(30), SLOPE),
        order=order,
        tolerance=1e-4,
    )
    dual = np.linalg.norm(np.asarray(SLOPE), 2 if order == 2 else 1)
    np.testing.assert_allclose(result.radius, 0.1 / dual, rtol=1e-3)


@pytest.mark.parametrize("floor", [0.0, 0.001])
def test_adaptive_ball(floor):
    params = point() | {"b": jnp.linspace(0.5, 2.0, 20)}
    slope = jnp.concatenate([jnp.zeros(10), -DATA[0][10:] * params["b"]])
    result = maximal_sharpness(
        quadratic,
        params,
        key=0,
        args=(DATA[0], slope),
        adaptive=True,
        floor=floor,
        num_steps=200,
    )
    weights = np.concatenate([np.zeros(10), np.linspace(0.5, 2.0, 20)])
    radius = float(result.radius)
    worst = [
        0.5 * np.max(CURVATURE * (r * weights + floor) ** 2)
        for r in (radius / 1.001, radius * 1.011)
    ]
    assert worst[0] <= 0.1 <= worst[1]


def two_layers(params, inputs):
    hidden = jax.nn.relu(inputs @ params["first"])
    return jnp.mean((hidden @ params["second"] - 1.0) ** 2)


def test_adaptive_sharpness_does_not_see_a_rescaling():
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "first": jax.random.normal(keys[0], (4, 8)),
        "second": jax.random.normal(keys[1], (8, 2)),
    }
    # A power of two: not even the rounding changes.
    scaled = {"first": 8.0 * params["first"], "second": params["second"] / 8.0}
    inputs = (jax.random.normal(keys[2], (16, 4)),)
    measure = functools.partial(maximal_sharpness, two_layers, key=0, args=inputs)
    for order in (2, math.inf):
        adaptive = [
            measure(p, adaptive=True, order=order).radius for p in (params, scaled)
        ]
        np.testing.assert_allclose(*adaptive, rtol=1e-4)
    plain = [measure(p).radius for p in (params, scaled)]
    assert abs(plain[1] / plain[0] - 1.0) > 0.5


def test_another_function_counts():
    """The ascent follows the loss; what is bounded is ten times as large."""

    def tenfold(params, *args):
        return 10.0 * quadratic(params, *args)

    plain = at_minimum(key=0)
    result = at_minimum(key=0, deviation_fn=tenfold)
    np.testing.assert_allclose(result.sharpness, 10.0 * plain.sharpness, rtol=1e-3)


def test_loss_that_is_infinite_some_way_off():
    def barrier(w):
        return jnp.where(jnp.abs(w[0]) < 0.5, 0.0, jnp.inf) + 0.0 * jnp.sum(w**2)

    result = maximal_sharpness(barrier, jnp.zeros(1), key=0)
    assert 0.49 < result.radius <= 0.5


def test_settings_cost_and_bounds_are_in_the_result():
    result = at_minimum(key=0, upper=1e-4)
    assert result.search.hit_upper
    assert result.search.num_evaluations == 200
    assert at_minimum(key=0, lower=5.0).search.hit_lower
    assert result.settings == MaximalSettings(
        0.1, 1e-5, 1e-4, 1e-4, 2, 200, 2.0, 1, adaptive=False, floor=0.0
    )


def test_half_precision_and_jit():
    def loss(params):
        return jnp.sum((params["x"] * jnp.arange(8.0, dtype=jnp.bfloat16)) ** 2)

    params = {"x": jnp.zeros(8, jnp.bfloat16)}
    measure = jax.jit(functools.partial(maximal_sharpness, loss))
    result = measure(params, key=0)
    assert result.radius.dtype == jnp.float32
    np.testing.assert_allclose(result.sharpness, 49.0 / 0.1, rtol=0.1)
