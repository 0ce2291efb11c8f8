"""A run that is saved and resumed is, bit for bit, the run that was not interrupted."""

import functools
import pickle

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import pytest
from transformations import DISTINCT

import heavytail_optax as hto

# A typed key, which no serialisation but Orbax's could keep in the state.
CASES = {
    case.name: (case, {"key": jax.random.key(11)} if case.is_random else {})
    for case in DISTINCT
}
EACH = pytest.mark.parametrize("name", CASES)

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}


@functools.cache
def run_of(name):
    """Of a transformation: its initial carry and three compiled steps of training."""
    case, key = CASES[name]
    transformation = optax.chain(case.make(**key), optax.scale(0.5))

    @jax.jit
    def three_steps(carry):
        def step(carry, _):
            params, state = carry
            updates, state = case.update(transformation, params, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, carry, length=3)[0]

    first = (PARAMS, transformation.init(PARAMS))
    middle = three_steps(first)
    return first, middle, three_steps(middle), three_steps


def through_orbax(first, middle, folder):
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    with ocp.CheckpointManager(folder, options=options) as manager:
        manager.save(3, args=ocp.args.StandardSave(middle))
    abstract = jax.eval_shape(lambda: first)
    with ocp.CheckpointManager(folder, options=options) as manager:
        return manager.restore(
            manager.latest_step(), args=ocp.args.StandardRestore(abstract)
        )


def through_flax(first, middle, folder):
    del folder
    return flax.serialization.from_bytes(first, flax.serialization.to_bytes(middle))


def through_pickle(first, middle, folder):
    del first, folder
    return pickle.loads(pickle.dumps(middle))


@EACH
@pytest.mark.parametrize("through", [through_orbax, through_flax, through_pickle])
def test_the_resumed_run_equals_the_uninterrupted_one(name, through, tmp_path):
    first, middle, last, three_steps = run_of(name)
    restored = through(first, middle, tmp_path / "checkpoints")
    # The same NamedTuples, not the dicts and lists of a file.
    assert jax.tree.structure(restored) == jax.tree.structure(middle)
    restored = jax.tree.map(jnp.asarray, restored)
    chex.assert_trees_all_equal(restored, middle, strict=True)
    resumed = three_steps(restored)
    chex.assert_trees_all_equal(resumed, last, strict=True)
    # What was saved matters: from the parameters alone the run goes elsewhere.
    if CASES[name][0].is_random:
        restarted, _ = three_steps((restored[0], first[1]))
        assert any(
            bool((x != y).any())
            for x, y in zip(
                jax.tree.leaves(restarted), jax.tree.leaves(last[0]), strict=True
            )
        )


@EACH
def test_the_state_is_plain_arrays(name):
    """What every format can hold: no typed key, no Python number."""
    _, (_, state), _, _ = run_of(name)
    for leaf in jax.tree.leaves(state):
        assert isinstance(leaf, jax.Array)
        assert leaf.dtype in (jnp.int32, jnp.uint32, jnp.float32)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_tails_are_pickled(protocol):
    for tail in (hto.tails.symmetric_pareto(1.4), hto.tails.alpha_stable(1.2, 0.5)):
        assert pickle.loads(pickle.dumps(tail, protocol)) == tail
