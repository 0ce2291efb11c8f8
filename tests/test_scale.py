"""What an update costs when it is sharded, read off the compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from collectives import collectives, collectives_by_branch
from transformations import RANDOM, TRANSFORMATIONS

import heavytail_optax as hto

LINE = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
SHARDED = jax.NamedSharding(LINE, jax.P("x"))
ROWS, COLUMNS = 512, 1024
SHARD_BYTES = 4 * ROWS * COLUMNS // 8
# Keys, counters and the sums of each leaf: nothing that grows with the leaves.
FEW_BYTES = 16 * 2**10

TAILS = {
    "symmetric_pareto": hto.tails.symmetric_pareto(1.4),
    "student_t": hto.tails.student_t(1.4),
    "alpha_stable": hto.tails.alpha_stable(1.4),
    "skewed": hto.tails.alpha_stable(1.4, 0.5),
    "gaussian": hto.tails.gaussian(),
}


def abstract(sharding=None):
    """A tree of two leaves, as `jax.jit` lowers it without any memory."""
    shape = (ROWS, COLUMNS)
    leaf = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)
    return {"a": leaf, "b": leaf}


def compiled_update(transformation, updates, sharding=None):
    """The compiled update of updates that stay sharded as they are."""
    state = jax.eval_shape(transformation.init, updates)
    out = None if sharding is None else (sharding, None)
    update = jax.jit(lambda u, s: transformation.update(u, s), out_shardings=out)
    return update.lower(updates, state).compile()


@pytest.mark.parametrize("name", TAILS)
def test_elementwise_noise_adds_no_collective_and_no_temporary(name):
    noise = hto.add_heavy_tailed_noise(TAILS[name], 0.1, key=0)
    for sharding in (None, SHARDED):
        compiled = compiled_update(noise, abstract(sharding), sharding)
        assert collectives(compiled.as_text()) == {}
        stored = compiled.memory_analysis().temp_size_in_bytes
        assert stored < FEW_BYTES + stored_by_quantile(name, sharding)


def stored_by_quantile(name, sharding):
    """What JAX's own normal quantile stores, and an array of the leaf before.

    Nothing until jax 0.11. From 0.12 on, `ndtri` has an optimization barrier, and XLA
    ends a loop there.
    """
    if name != "gaussian":
        return 0
    of_tree = jax.jit(
        lambda tree: jax.tree.map(jax.scipy.special.ndtri, tree),
        out_shardings=sharding,
    )
    compiled = of_tree.lower(abstract(sharding)).compile()
    stored = compiled.memory_analysis().temp_size_in_bytes
    leaf = 4 * ROWS * COLUMNS if sharding is None else SHARD_BYTES
    return stored + leaf if stored > FEW_BYTES else 0


def test_noise_of_optax_needs_temporaries():
    # Negative control: 23-bit normals from bits that are stored.
    compiled = compiled_update(optax.add_noise(0.1, 0.0, key=0), abstract())
    assert compiled.memory_analysis().temp_size_in_bytes > 4 * ROWS * COLUMNS


def assert_one_all_reduce(compiled, num_leaves=2):
    """One all-reduce of a number a leaf; two more in the branch for overflow."""
    always, in_the_branch = collectives_by_branch(compiled.as_text())
    assert always == {"all-reduce": [num_leaves]}
    assert in_the_branch == {"all-reduce": [num_leaves] * 2}


def test_truncation_of_sharded_parameters_is_one_small_all_reduce():
    truncation = hto.truncate_update_norm(0.5)
    compiled = compiled_update(truncation, abstract(SHARDED), SHARDED)
    assert_one_all_reduce(compiled)
    # The branch for overflow stores scaled entries; where results go there is room for
    # all but one leaf.
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary < SHARD_BYTES + FEW_BYTES


def test_isotropic_noise_of_sharded_parameters_stays_on_its_device():
    noise = hto.add_heavy_tailed_noise(
        TAILS["symmetric_pareto"], 0.1, key=0, direction="isotropic"
    )
    compiled = compiled_update(noise, abstract(SHARDED), SHARDED)
    assert_one_all_reduce(compiled)
    # The normals of both leaves, and what truncation needs.
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary < 3 * SHARD_BYTES + FEW_BYTES


def test_gathering_is_found():
    # Negative control: the result asked for whole on each device.
    noise = hto.add_heavy_tailed_noise(TAILS["gaussian"], 0.1, key=0)
    whole = jax.NamedSharding(LINE, jax.P())
    compiled = compiled_update(noise, abstract(SHARDED), whole)
    assert "all-gather" in collectives(compiled.as_text())


def training_step(case):
    """A whole step on a quadratic: gradient, update and new parameters."""
    transformation = case.make()

    def loss(params):
        return sum(jnp.sum(jnp.square(x - 1.0)) for x in jax.tree.leaves(params))

    def step(params, state):
        gradient = jax.grad(loss)(params)
        updates, state = case.update(transformation, gradient, state, params)
        return optax.apply_updates(params, updates), state

    return transformation, step


PARAMS = {"w": jnp.linspace(-1.0, 2.0, 24).reshape(4, 6), "b": jnp.zeros(6)}


@pytest.mark.parametrize("case", TRANSFORMATIONS, ids=lambda case: case.name)
def test_training_is_lowered_for_cpu_cuda_and_tpu(case):
    transformation, step = training_step(case)
    state = transformation.init(PARAMS)
    platforms = ("cpu", "cuda", "tpu")
    exported = jax.export.export(jax.jit(step), platforms=platforms)(PARAMS, state)
    assert exported.platforms == platforms
    assert len(exported.mlir_module_serialized) > 0
    # What was exported is what is run here.
    got = exported.call(PARAMS, state)
    expected = jax.jit(step)(PARAMS, state)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6),
        jax.tree.leaves(got),
        jax.tree.leaves(expected),
    )
    assert not (case in RANDOM and np.array_equal(got[0]["w"], PARAMS["w"]))
