import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from statistical_checks import (
    FALSE_ALARM_RATE,
    bonferroni,
    independence_p_value,
    law_p_value,
    survival_p_value,
)

import heavytail_optax as hto

PARETO = hto.tails.pareto(1.4)
UPDATES = {"a": jnp.asarray([0.5, -2.0, 1e-3]), "b": jnp.asarray(3.0)}
NOISE = {"a": jnp.asarray([0.1, 0.7, -0.3]), "b": jnp.asarray(-1.0)}


def steps_of(transformation, updates, noise, count):
    state = transformation.init(updates)
    for _ in range(count):
        got, state = transformation.update(updates, state, gradient_noise=noise)
        yield got, state


def test_adds_z_times_the_noise():
    transformation = hto.inflate_gradient_noise(PARETO, 0.5, key=3)
    for got, state in steps_of(transformation, UPDATES, NOISE, 5):
        z = np.float32(0.5) * np.float32(state.inflation_draw)
        expected = jax.tree.map(lambda g, v, z=z: g + z * v, UPDATES, NOISE)
        jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_one_scalar_for_the_whole_update():
    zeros = jax.tree.map(jnp.zeros_like, UPDATES)
    transformation = hto.inflate_gradient_noise(PARETO, 1.0, key=3)
    for got, state in steps_of(transformation, zeros, NOISE, 5):
        assert state.inflation_draw >= 1.0
        factors = jax.tree.leaves(jax.tree.map(lambda x, v: x / v, got, NOISE))
        factors = np.concatenate([np.ravel(x) for x in factors])
        np.testing.assert_allclose(factors, state.inflation_draw, rtol=3e-7)


def draws_over(tail, num_steps, key=0):
    transformation = hto.inflate_gradient_noise(tail, 2.0, key=key)
    zero, one = jnp.zeros(()), jnp.ones(())

    def step(state, _):
        got, state = transformation.update(zero, state, gradient_noise=one)
        return state, (got, state.inflation_draw)

    scan = jax.jit(lambda state: jax.lax.scan(step, state, None, length=num_steps))
    state, (got, draws) = scan(transformation.init(zero))
    assert state.inflation_count == num_steps
    np.testing.assert_array_equal(got, 2.0 * draws)
    return np.asarray(draws, float)


def test_law_over_the_steps():
    draws = draws_over(PARETO, 10**5)
    assert draws.min() >= 1.0
    u = 1.0 - draws**-1.4
    levels = np.asarray([1e-1, 1e-2, 1e-3, 1e-4])
    p_values = [
        law_p_value(draws, lambda w: 1.0 - w**-1.4),
        survival_p_value(draws, levels ** (-1 / 1.4), levels),
        independence_p_value(u[1:], u[:-1]),
        independence_p_value(u, 1.0 - draws_over(PARETO, 10**5, key=1) ** -1.4),
    ]
    assert bonferroni(p_values) > FALSE_ALARM_RATE
    # Negative control: alpha off by five percent.
    wrong = draws_over(hto.tails.pareto(1.4 * 1.05), 10**5)
    assert law_p_value(wrong, lambda w: 1.0 - w**-1.4) < FALSE_ALARM_RATE


def test_tail_need_not_be_centred_nor_positive():
    for tail in (hto.tails.lomax(1.4), hto.tails.alpha_stable(1.4), PARETO):
        transformation = hto.inflate_gradient_noise(tail, 1.0, key=0)
        for got, state in steps_of(transformation, UPDATES, NOISE, 2):
            expected = UPDATES["b"] + state.inflation_draw * NOISE["b"]
            np.testing.assert_allclose(got["b"], expected, rtol=1e-6)


def test_scale_by_layer_and_by_step():
    zeros = jax.tree.map(jnp.zeros_like, UPDATES)
    scales = {"a": lambda step: 1.0 + step, "b": 0.25}
    transformation = hto.inflate_gradient_noise(PARETO, scales, key=3)
    for step, (got, state) in enumerate(steps_of(transformation, zeros, NOISE, 3)):
        w = state.inflation_draw
        np.testing.assert_allclose(got["a"], (1.0 + step) * w * NOISE["a"], rtol=1e-6)
        np.testing.assert_allclose(got["b"], 0.25 * w * NOISE["b"], rtol=1e-6)


def test_schedule_of_the_tail():
    transformation = hto.inflate_gradient_noise(
        lambda step: hto.tails.pareto(jnp.where(step < 1, 1e4, 0.1)), 1.0, key=0
    )
    draws = [
        float(state.inflation_draw)
        for _, state in steps_of(transformation, UPDATES, NOISE, 2)
    ]
    assert draws[0] < 1.01 < draws[1]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_huge_draws_saturate(dtype):
    updates, noise = jnp.ones(3, dtype), jnp.asarray([1.0, -1.0, 0.0], dtype)
    transformation = hto.inflate_gradient_noise(hto.tails.pareto(1e-3), 1.0, key=0)
    for got, state in steps_of(transformation, updates, noise, 3):
        assert got.dtype == dtype
        largest = float(jnp.finfo(dtype).max)
        np.testing.assert_array_equal(
            np.asarray(got.astype(jnp.float32), float), [largest, -largest, 1.0]
        )
        assert np.isfinite(state.inflation_draw)


def test_mixed_dtypes_share_the_draw():
    updates = {"a": jnp.zeros(2, jnp.float16), "b": jnp.zeros(2)}
    noise = {"a": jnp.ones(2, jnp.float16), "b": jnp.ones(2)}
    transformation = hto.inflate_gradient_noise(PARETO, 1.0, key=9)
    got, state = next(steps_of(transformation, updates, noise, 1))
    np.testing.assert_array_equal(got["b"], state.inflation_draw)
    np.testing.assert_array_equal(got["a"], np.float16(state.inflation_draw))
    assert optax.tree.get(state, "inflation_count") == 1
