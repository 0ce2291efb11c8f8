"""Weight averaging against the mean of the path in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from heavytail_optax.experiments.training.averaging import average_at_the_end


@pytest.mark.parametrize(
    ("share", "number"), [(0.25, 2), (0.3, 2), (1.0, 8), (1e-9, 1)]
)
def test_the_last_step_leads_to_the_mean(share, number):
    steps = 8
    moves = np.random.default_rng(0).normal(size=(steps, 3)).astype(np.float32)
    chain = average_at_the_end(steps, share)
    params = {"weight": jnp.ones(3)}
    state = chain.init(params)
    update = jax.jit(chain.update)
    path = 1.0 + np.cumsum(moves.astype(np.float64), axis=0)
    for step, move in enumerate(moves):
        updates, state = update({"weight": jnp.asarray(move)}, state, params)
        params = optax.apply_updates(params, updates)
        if step < steps - 1:
            np.testing.assert_array_equal(updates["weight"], move)
    expected = path[-number:].mean(axis=0)
    np.testing.assert_allclose(params["weight"], expected, rtol=1e-5, atol=1e-6)


def test_data_types_are_kept():
    chain = average_at_the_end(1, 1.0)
    params = {"weight": jnp.ones(3, jnp.bfloat16)}
    updates, state = chain.update(params, chain.init(params), params)
    assert updates["weight"].dtype == jnp.bfloat16
    assert state.mean["weight"].dtype == jnp.bfloat16
