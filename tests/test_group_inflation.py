"""Inflation over groups: replicas of data parallel training and micro-batches."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import heavytail_optax as hto
from heavytail_optax._inflation_weights import balanced_weights
from heavytail_optax._keys import tagged_key

DEVICES = 8
TAIL = hto.tails.pareto(1.4)


def batch_norm_loss(params, batch):
    """A loss that couples the examples of its batch, as batch normalisation does."""
    inputs, targets = batch
    hidden = inputs @ params["w"]
    mean, deviation = (f(hidden, axis=0, keepdims=True) for f in (jnp.mean, jnp.std))
    normal = (hidden - mean) / (deviation + 1e-3)
    return jnp.mean((normal @ params["v"] - targets) ** 2)


@pytest.fixture(name="problem")
def _problem():
    keys = jax.random.split(jax.random.key(0), 4)
    params = {
        "w": jax.random.normal(keys[0], (3, 5)),
        "v": jax.random.normal(keys[1], (5,)),
    }
    batch = (
        jax.random.normal(keys[2], (DEVICES * 4, 3)),
        jax.random.normal(keys[3], (DEVICES * 4,)),
    )
    return params, batch


def data_mesh():
    auto = jax.sharding.AxisType.Auto
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(auto,))


def factors_of(key):
    draw_key, split_key = jax.random.split(key)
    z = 0.5 * TAIL.sample(draw_key)
    return z, hto.group_inflation_factors(z, num_groups=DEVICES, key=split_key)


def replica_gradient(key, params, batch):
    """Runs on each device: no collective but the all-reduce of the gradient."""
    params = jax.lax.pcast(params, "data", to="varying")
    _, factors = factors_of(key)
    grad = jax.grad(batch_norm_loss)(params, batch)
    own = factors[jax.lax.axis_index("data")]
    return jax.lax.pmean(jax.tree.map(lambda g: own * g, grad), "data")


def plain_gradient(key, params, batch):
    del key
    params = jax.lax.pcast(params, "data", to="varying")
    grad = jax.grad(batch_norm_loss)(params, batch)
    return jax.lax.pmean(grad, "data")


def sharded(function):
    return jax.jit(
        jax.shard_map(
            function,
            mesh=data_mesh(),
            in_specs=(P(), P(), P("data")),
            out_specs=P(),
        )
    )


def one_device_gradient(key, params, batch):
    """The same groups one after the other on one device, in float32."""
    z, factors = factors_of(key)
    groups = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), batch)
    grads = jax.vmap(jax.grad(batch_norm_loss), in_axes=(None, 0))(params, groups)
    mean = jax.tree.map(lambda g: jnp.einsum("n,n...", factors, g) / DEVICES, grads)
    return z, factors, mean


def test_eight_devices_equal_one(problem):
    params, batch = problem
    for seed in range(5):
        key = jax.random.key(seed)
        z, factors, expected = one_device_gradient(key, params, batch)
        actual = sharded(replica_gradient)(key, params, batch)
        for a, b in zip(
            jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-5 * (1 + float(z)))
        # One Z for all, and both signs: else nothing would cancel.
        np.testing.assert_allclose(np.abs(factors - 1), z, rtol=1e-5)
        assert np.sum(np.asarray(factors) > 1) == DEVICES // 2


def test_group_weights_add_no_collective(problem):
    def collectives(function):
        key = jax.random.key(0)
        text = sharded(function).lower(key, *problem).compile().as_text()
        names = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
        return sorted(re.findall(rf" ({names})(?:-start)?\(", text))

    plain = collectives(plain_gradient)
    assert plain
    assert collectives(replica_gradient) == plain


def test_pmap_gives_the_same(problem):
    params, batch = problem
    key = jax.random.key(3)
    shards = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), batch)
    mapped = jax.pmap(replica_gradient, axis_name="data", in_axes=(None, None, 0))
    actual = mapped(key, params, shards)
    expected = sharded(replica_gradient)(key, params, batch)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a[0], b, atol=1e-5)
        np.testing.assert_array_equal(a[0], a[-1])


def test_micro_batches_of_an_accumulated_gradient(problem):
    """The factors in a scan over micro-batches give the same gradient."""
    params, batch = problem
    key = jax.random.key(2)
    _, factors, expected = one_device_gradient(key, params, batch)
    groups = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), batch)

    def accumulate(total, factor_and_group):
        factor, group = factor_and_group
        grad = jax.grad(batch_norm_loss)(params, group)
        return jax.tree.map(lambda t, g: t + factor * g / DEVICES, total, grad), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    actual, _ = jax.lax.scan(accumulate, zeros, (factors, groups))
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_balanced_scheme_inside_shard_map_splits_each_part(problem):
    """With axis_name: one Z on all devices, another split on each."""
    _, batch = problem
    params = jnp.zeros(4)

    def losses(params, batch):
        return batch[0] @ params

    grad_fn = hto.tail_inflated_value_and_grad(losses, TAIL, 0.5, axis_name="data")

    def weights(key, params, batch):
        # With the identity as inputs, the gradient is the vector of weights.
        eye = jax.lax.pcast(jnp.eye(4), "data", to="varying")
        _, grad = grad_fn(key, params, (eye, batch[1]))
        return jnp.expand_dims(grad, 0)

    rows = jax.shard_map(
        weights,
        mesh=data_mesh(),
        in_specs=(P(), P(), P("data")),
        out_specs=P("data"),
    )(jax.random.key(1), params, batch)
    draw_key, _ = jax.random.split(tagged_key(jax.random.key(1), "tail_inflated_grad"))
    z = 0.5 * TAIL.sample(draw_key)
    np.testing.assert_allclose(np.abs(rows * 4 - 1), z, rtol=1e-5)
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-5)
    assert len({tuple(row > 0.25) for row in np.asarray(rows)}) > 1


def test_one_example_a_device_is_inflated_over_the_devices(problem):
    """There is nothing to split on a device; over the devices it is the same method."""
    _, (inputs, targets) = problem
    inputs, targets = inputs[:DEVICES], targets[:DEVICES]
    params = jnp.asarray([0.3, -1.0, 2.0])

    def losses(params, batch):
        return (batch[0] @ params - batch[1]) ** 2

    on_each = hto.tail_inflated_value_and_grad(losses, TAIL, 0.5, axis_name="data")

    def split(key, params, batch):
        return jax.lax.pmean(on_each(key, params, batch)[1], "data")

    key = jax.random.key(4)
    with pytest.raises(ValueError, match="`small_batch`.*`group_inflation_factors`"):
        sharded(split)(key, params, (inputs, targets))

    def over_devices(key, params, batch):
        params = jax.lax.pcast(params, "data", to="varying")
        own = factors_of(key)[1][jax.lax.axis_index("data")]
        grad = jax.grad(lambda p: losses(p, batch).mean())(params)
        return jax.lax.pmean(own * grad, "data")

    grad = sharded(over_devices)(key, params, (inputs, targets))
    z, factors = factors_of(key)
    expected = jax.grad(
        lambda p: jnp.sum(factors * losses(p, (inputs, targets))) / DEVICES
    )(params)
    np.testing.assert_allclose(grad, expected, rtol=2e-4)
    # The weights are those of `balanced` with all examples on one device.
    signs = (np.asarray(factors, np.float64) - 1) / float(z)
    np.testing.assert_allclose(sorted(signs), np.repeat([-1.0, 1.0], 4), rtol=1e-5)


@pytest.mark.parametrize("microbatch_size", [None, 2])
def test_sharded_gradient_of_examples_equals_the_weighted_one(problem, microbatch_size):
    """pmean of tail_inflated_grad in shard_map, with its default check of replication,
    is the gradient of the loss weighted as on the devices."""
    _, (inputs, targets) = problem
    params = jnp.asarray([0.3, -1.0, 2.0])

    def losses(params, batch):
        return (batch[0] @ params - batch[1]) ** 2

    grad_fn = hto.tail_inflated_value_and_grad(
        losses, TAIL, 0.5, axis_name="data", microbatch_size=microbatch_size
    )

    def mean_gradient(key, params, batch):
        value, grad = grad_fn(key, params, batch)
        return jax.lax.pmean((value, grad), "data")

    key = jax.random.key(4)
    value, grad = sharded(mean_gradient)(key, params, (inputs, targets))
    draw_key, split_key = jax.random.split(tagged_key(key, "tail_inflated_grad"))
    z = 0.5 * TAIL.sample(draw_key)
    weights = jnp.concatenate(
        [
            balanced_weights(jax.random.fold_in(split_key, device), z, jnp.ones(4))
            for device in range(DEVICES)
        ]
    )
    expected = jax.grad(
        lambda p: jnp.sum(weights * losses(p, (inputs, targets))) / DEVICES
    )(params)
    np.testing.assert_allclose(grad, expected, rtol=2e-4)
    mean_loss = jnp.mean(losses(params, (inputs, targets)))
    np.testing.assert_allclose(value, mean_loss, rtol=1e-5)


def test_multi_steps_accumulates_the_inflated_gradient(problem):
    """optax.MultiSteps averages micro-gradients, each times its factor."""
    params, batch = problem
    key = jax.random.key(6)
    _, factors, expected = one_device_gradient(key, params, batch)
    groups = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), batch)
    optimizer = optax.MultiSteps(optax.sgd(1.0), every_k_schedule=DEVICES)
    state = optimizer.init(params)
    step = jax.jit(optimizer.update)
    for i in range(DEVICES):
        group = jax.tree.map(lambda x, i=i: x[i], groups)
        grad = jax.grad(batch_norm_loss)(params, group)
        grad = jax.tree.map(lambda g, i=i: factors[i] * g, grad)
        updates, state = step(grad, state, params)
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(-a, b, atol=2e-5)
