"""What noise promises with keys of each implementation: the table of docs/scale.md."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from collectives import collectives
from key_implementations import (
    COUNTER_BASED,
    each_counter_based,
    each_implementation,
    each_other,
)
from statistical_checks import (
    FALSE_ALARM_RATE,
    bonferroni,
    law_p_value,
    survival_p_value,
)

import heavytail_optax as hto
from heavytail_optax._keys import fold_in

PARETO = hto.tails.symmetric_pareto(1.4)
ZEROS = {"w": jnp.zeros((64, 32)), "b": jnp.zeros(16)}
LINE = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
GRID = jax.make_mesh(
    (4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Explicit,) * 2
)


def key_of(implementation, seed=3):
    return jax.random.key(seed, impl=implementation)


def noise_of(key, updates):
    noise = hto.add_heavy_tailed_noise(PARETO, 0.1, key=key)
    return noise.update(updates, noise.init(updates))[0]


def placed(mesh, specs):
    return {
        name: jax.device_put(x, jax.NamedSharding(mesh, specs[name]))
        for name, x in ZEROS.items()
    }


def assert_equal(got, expected):
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@each_implementation
def test_noise_is_the_same_under_any_sharding(implementation):
    update = jax.jit(functools.partial(noise_of, key_of(implementation)))
    expected = update(ZEROS)
    auto = placed(LINE, {"w": jax.P("x"), "b": jax.P("x")})
    assert_equal(update(auto), expected)
    text = update.lower(auto).compile().as_text()
    if implementation in COUNTER_BASED:
        assert collectives(text) == {}
    with jax.set_mesh(GRID):
        explicit = placed(GRID, {"w": jax.P("x", "y"), "b": jax.P("x")})
        got = update(explicit)
        assert got["w"].sharding.spec == jax.P("x", "y")
    assert_equal(got, expected)


@each_implementation
def test_replicas_draw_the_same_and_shards_differ_in_shard_map(implementation):
    key = key_of(implementation)
    axes = {"w": "x", "b": None}
    specs = {"w": jax.P("x"), "b": jax.P()}

    @jax.jit
    @jax.shard_map(mesh=LINE, in_specs=(specs,), out_specs=jax.P("x"))
    def update(updates):
        noise = hto.add_heavy_tailed_noise(PARETO, 0.1, key=key, axis_name=axes)
        new, _ = noise.update(updates, noise.init(updates))
        return new["w"], new["b"][None]

    shards, replicas = update(ZEROS)
    assert len({np.asarray(x).tobytes() for x in shards.reshape(8, -1)}) == 8
    assert len({np.asarray(x).tobytes() for x in replicas}) == 1


def noise_of_many(keys):
    return jax.jit(jax.vmap(lambda key: noise_of(key, ZEROS)["b"]))(keys)


@each_counter_based
def test_noise_under_vmap_is_that_of_each_key(implementation):
    keys = jax.random.split(key_of(implementation), 4)
    one_by_one = jnp.stack([noise_of(key, ZEROS)["b"] for key in keys])
    np.testing.assert_array_equal(noise_of_many(keys), one_by_one)


@each_other
def test_noise_under_vmap_depends_on_the_first_key_alone(implementation):
    keys = jax.random.split(key_of(implementation), 4)
    others = jnp.stack([keys[0], *jax.random.split(keys[3], 3)])
    noise = np.asarray(noise_of_many(keys))
    np.testing.assert_array_equal(noise, noise_of_many(others))
    assert len({row.tobytes() for row in noise}) == 4
    assert not np.array_equal(noise[1], noise_of(keys[1], ZEROS)["b"])


@each_implementation
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float64])
def test_draws_in_another_dtype_are_those_of_single_precision(implementation, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        key = key_of(implementation)
        draws = np.asarray(PARETO.sample(key, (10**4,), dtype))
        single = np.asarray(PARETO.sample(key, (10**4,), jnp.float32))
    assert draws.dtype == dtype
    if dtype == jnp.float16:
        expected = np.clip(single, -65504.0, 65504.0).astype(np.float16)
        np.testing.assert_array_equal(draws, expected)
        return
    np.testing.assert_allclose(draws, single, rtol=1e-4)
    assert np.mean(draws.astype(np.float32) == draws) < 0.05


@each_implementation
def test_draws_have_the_law_of_the_tail(implementation):
    keys = jax.random.split(key_of(implementation, 11), 2)
    pareto = np.asarray(PARETO.sample(keys[0], (2**18,)))
    student = np.asarray(hto.tails.student_t(1.5).sample(keys[1], (2**18,)))
    thresholds = np.asarray([10.0, 100.0, 1e3])

    def p_value(pareto):
        return bonferroni(
            [
                law_p_value(np.abs(pareto), lambda x: 1 - np.maximum(x, 1) ** -1.4),
                survival_p_value(np.abs(pareto), thresholds, thresholds**-1.4),
                law_p_value(student, scipy.stats.t(1.5).cdf),
            ]
        )

    assert p_value(pareto) > FALSE_ALARM_RATE
    # Negative control: another tail index.
    wrong = np.sign(pareto) * np.abs(pareto) ** 1.02
    assert p_value(wrong) < FALSE_ALARM_RATE


@each_implementation
def test_many_keys_derived_from_each_other_take_no_longer(implementation):
    """On CPU, XLA computes a chain of JAX's own Threefry-4x32 keys exponentially often."""
    zeros = [jnp.zeros(size) for size in range(1, 6)]
    noise = hto.add_heavy_tailed_noise(PARETO, 0.1, key=key_of(implementation))

    @jax.jit
    def noises(state):
        return noise.update(zeros, state)[0]

    state = noise.init(zeros)
    together, apart = noises(state), noise.update(zeros, state)[0]
    assert_equal(together, apart)


@each_implementation
@pytest.mark.parametrize("data", [0, 7, 2**32 - 1])
def test_keys_are_those_of_jax(implementation, data):
    """Those of Philox keys are derived by our own function."""
    key, data = key_of(implementation), jnp.uint32(data)
    expected = jax.random.key_data(jax.random.fold_in(key, data))
    got = fold_in(key, data)
    assert jax.random.key_impl(got) == jax.random.key_impl(key)
    np.testing.assert_array_equal(jax.random.key_data(got), expected)
