"""The processes against the core's own transformations, and their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import heavytail_optax as hto
from heavytail_optax.dynamics._process import project

LANDSCAPE = hto.dynamics.four_minima()
PLANE = hto.dynamics.product_landscape(
    [LANDSCAPE, hto.dynamics.quadratic(1.0, 0.9, 0.7)]
)
TAIL = hto.tails.symmetric_pareto(1.2)
KEY = jax.random.key(3)


def path(landscape, process, state, positions, num_steps):
    """The positions after each step."""

    def step(carry, _):
        moved, state = process.step(landscape, carry[1], carry[0])
        return (moved, state), moved

    return jax.lax.scan(step, (positions, state), length=num_steps)[1]


def by_the_core(landscape, optimizer, truncation, positions, num_steps):
    """Chains as the elements of one parameter, each truncated by the transformation."""

    def step(carry, _):
        positions, state = carry
        gradient = jax.vmap(landscape.gradient)(positions)
        updates, state = optimizer.update(gradient, state, positions)
        updates = jax.vmap(
            lambda update: truncation.update(update, truncation.init(update))[0]
        )(updates)
        moved = project(landscape, positions + updates)
        return (moved, state), moved

    start = (positions, optimizer.init(positions))
    return jax.lax.scan(step, start, length=num_steps)[1]


@pytest.mark.parametrize(
    ("landscape", "tail", "max_norm"),
    [
        (LANDSCAPE, TAIL, 0.05),
        (LANDSCAPE, TAIL, float("inf")),
        (LANDSCAPE, hto.tails.gaussian(), 0.05),
        (PLANE, TAIL, 0.05),
    ],
    ids=["line", "untruncated", "light", "plane"],
)
def test_sgd_process_is_the_chain_of_the_core(landscape, tail, max_norm):
    eta, scale = 1e-3, 1.0
    positions = jnp.asarray(np.repeat(np.asarray(landscape.minima), 8, axis=0))
    process = hto.dynamics.sgd_process(eta, max_norm, tail, scale)
    state = process.init(landscape, positions, key=KEY)
    got = jax.jit(lambda: path(landscape, process, state, positions, 30))()
    optimizer = optax.chain(
        hto.add_heavy_tailed_noise(tail, scale, key=KEY), optax.sgd(eta)
    )
    truncation = hto.truncate_update_norm(max_norm)
    expected = by_the_core(landscape, optimizer, truncation, positions, 30)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)
    assert np.abs(got[-1] - positions).max() > 1e-3


def test_one_chain_of_optax_process_takes_the_path_of_sgd_process():
    def make(key):
        return hto.truncated_heavy_tailed_sgd(1e-3, 0.5, TAIL, 1.0, key=key)

    own = hto.dynamics.optax_process(make)
    fast = hto.dynamics.sgd_process(1e-3, 0.5, TAIL, 1.0)
    positions = jnp.asarray([-0.7])
    own_state = own.init(LANDSCAPE, positions, key=KEY)
    fast_state = fast.init(LANDSCAPE, positions, key=own_state[0][0])
    np.testing.assert_allclose(
        path(LANDSCAPE, own, own_state, positions, 50),
        path(LANDSCAPE, fast, fast_state, positions, 50),
        rtol=0,
        atol=2e-5,
    )


def test_each_chain_of_optax_process_is_its_optimizer_alone():
    def make(key):
        return hto.truncated_heavy_tailed_sgd(
            1e-3, 0.5, TAIL, 1.0, key=key, momentum=0.9
        )

    process = hto.dynamics.optax_process(make)
    positions = jnp.asarray([-0.7, 0.5, 1.3])
    keys, _ = state = process.init(LANDSCAPE, positions, key=KEY)
    got = path(LANDSCAPE, process, state, positions, 20)

    @jax.jit
    def alone(key, x):
        optimizer = make(key)

        def step(carry, _):
            x, inner = carry
            updates, inner = optimizer.update(LANDSCAPE.gradient(x), inner, x)
            x = project(LANDSCAPE, x + updates)
            return (x, inner), x

        return jax.lax.scan(step, (x, optimizer.init(x)), length=20)[1]

    for chain in range(3):
        expected = alone(keys[chain], positions[chain])
        np.testing.assert_allclose(got[:, chain], expected, rtol=0, atol=2e-5)
    assert len(np.unique(np.asarray(got[-1]))) == 3


def test_adam_drives_chains():
    def adam(key):
        noise = hto.add_heavy_tailed_noise(TAIL, 0.1, key=key)
        return optax.chain(noise, optax.adam(1e-3), hto.truncate_update_norm(0.5))

    result = hto.dynamics.simulate(
        *(LANDSCAPE, hto.dynamics.optax_process(adam)),
        key=0,
        start=-0.7,
        num_steps=50,
        num_chains=8,
    )
    assert result.field_counts.sum() == 400
    assert np.unique(result.positions).size == 8


def test_drift_and_diffusion_take_the_place_of_the_landscape():
    well = hto.dynamics.quadratic(2.0, 1.0, 1.0)
    positions = jnp.linspace(-0.5, 0.5, 16)
    plain = hto.dynamics.sgd_process(0.01, 0.5, TAIL, 0.1)
    given = hto.dynamics.sgd_process(
        *(0.01, 0.5, TAIL, 0.1),
        drift=lambda x: -2.0 * x,
        diffusion=lambda x: 1.0 + 0 * x,
    )
    doubled = hto.dynamics.sgd_process(
        *(0.01, 0.5, TAIL, 0.1), diffusion=lambda x: 2.0 + 0.0 * x
    )
    twice = hto.dynamics.sgd_process(0.01, 0.5, TAIL, 0.2)
    paths = [
        path(well, each, each.init(well, positions, key=KEY), positions, 20)
        for each in (plain, given, doubled, twice)
    ]
    np.testing.assert_allclose(paths[0], paths[1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(paths[2], paths[3], rtol=0, atol=1e-6)
    assert np.abs(paths[0] - paths[2]).max() > 1e-3


def test_positive_noise_moves_to_the_left():
    """theory.md, trap 1: the update subtracts Z."""
    tail = hto.tails.alpha_stable(1.2, 0.9)  # jumps are nearly all positive
    well = hto.dynamics.quadratic(1.0, 0.4, 0.4)
    for sign, side in ((1.0, -1), (-1.0, 1)):
        process = hto.dynamics.sgd_process(
            *(1e-2, 0.5, tail, 0.1), diffusion=lambda x, sign=sign: sign + 0.0 * x
        )
        exits = hto.dynamics.first_exit_times(
            well, process, 0, key=0, num_exits=32, max_steps=100_000
        )
        # The expected share is .95: 21 of 32 or fewer has a chance of 1e-7.
        assert np.sum(exits.destinations == side) > 21


def test_iterates_are_projected():
    process = hto.dynamics.sgd_process(1e-3, float("inf"), TAIL, 1e4)
    state = process.init(LANDSCAPE, jnp.zeros(64), key=KEY)
    got = np.asarray(path(LANDSCAPE, process, state, jnp.zeros(64), 20))
    assert np.abs(got).max() == np.float32(1.6)
    assert np.mean(np.abs(got) == np.float32(1.6)) > 0.5


@pytest.mark.parametrize("landscape", [LANDSCAPE, PLANE], ids=["line", "plane"])
@pytest.mark.parametrize("argument", ["learning_rate", "max_norm", "scale"])
def test_bad_traced_values_move_every_chain_to_nan(landscape, argument):
    """They cannot be refused, and would else go unseen; zero is no bad value."""
    good = {"learning_rate": 1e-2, "max_norm": 0.05, "scale": 1.0, "tail": TAIL}
    positions = jnp.asarray(np.repeat(np.asarray(landscape.minima), 8, axis=0))

    @jax.jit
    def moved(value):
        process = hto.dynamics.sgd_process(**(good | {argument: value}))
        state = process.init(landscape, positions, key=KEY)
        return process.step(landscape, state, positions)[0]

    for bad in (-1.0, jnp.nan):
        assert np.isnan(moved(bad)).all()
    assert np.isfinite(moved(0.5 * good[argument])).all()
    if argument != "scale":
        np.testing.assert_allclose(moved(0.0), positions, rtol=1e-6)
