"""Data parallelism: `jit` with shardings, `shard_map`, and the older `pmap`.

Under `jit` nothing changes: shard the batch. Under `shard_map` each device inflates the
noise of its own part of the batch. Z is the same on all devices, and so is the update.
`pmap` does the same, but JAX only maintains it: use one of the other two in new code. To
try it on a machine with one device:

    XLA_FLAGS=--xla_force_host_platform_device_count=4 python several_devices.py
"""

import functools

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from sklearn.datasets import load_digits

import heavytail_optax as hto

TAIL, SCALE = hto.tails.pareto(1.4), 1.0
OPTIMIZER = optax.chain(optax.sgd(0.1), hto.truncate_update_norm(0.25))


def loss_per_example(params, batch) -> jax.Array:
    """Cross-entropy of a linear classifier."""
    inputs, targets = batch
    logits = inputs @ params["w"] + params["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets)


def update(gradient, params, state, key, batch, axis_name=None):
    """One step, however the gradient is computed over devices."""
    loss, grads = gradient(key, params, batch)
    if axis_name is not None:
        # Both are for the device's own part of the batch.
        loss, grads = jax.lax.pmean((loss, grads), axis_name)
    updates, state = OPTIMIZER.update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss


def with_jit(mesh: jax.sharding.Mesh):
    """The batch is sharded, and the compiler does the rest."""
    gradient = hto.tail_inflated_value_and_grad(loss_per_example, TAIL, SCALE)
    step = jax.jit(functools.partial(update, gradient), donate_argnums=(0, 1))
    by_example = jax.NamedSharding(mesh, PartitionSpec("data"))

    def sharded_step(params, state, key, batch):
        return step(params, state, key, jax.device_put(batch, by_example))

    return sharded_step


def with_shard_map(mesh: jax.sharding.Mesh):
    """Each device uses its own part of the batch; the mean is one all-reduce."""
    gradient = hto.tail_inflated_value_and_grad(
        loss_per_example, TAIL, SCALE, axis_name="data"
    )
    return jax.jit(
        jax.shard_map(
            functools.partial(update, gradient, axis_name="data"),
            mesh=mesh,
            in_specs=(*[PartitionSpec()] * 3, PartitionSpec("data")),
            out_specs=PartitionSpec(),
        ),
        donate_argnums=(0, 1),
    )


def with_pmap(mesh: jax.sharding.Mesh):
    """The older way, with a leading axis of devices on the batch."""
    gradient = hto.tail_inflated_value_and_grad(
        loss_per_example, TAIL, SCALE, axis_name="data"
    )
    step = jax.pmap(
        functools.partial(update, gradient, axis_name="data"),
        axis_name="data",
        in_axes=(None, None, None, 0),
        out_axes=None,
    )

    def reshaped_step(params, state, key, batch):
        parts = jax.tree.map(lambda x: x.reshape(mesh.size, -1, *x.shape[1:]), batch)
        return step(params, state, key, parts)

    return reshaped_step


def main(steps: int = 200) -> dict[str, float]:
    """Trains in each way, and returns the accuracies on held-out images."""
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16.0, jnp.float32), jnp.asarray(labels)
    mesh = jax.make_mesh(
        (jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    accuracies = {}
    for build in (with_jit, with_shard_map, with_pmap):
        step = build(mesh)
        params = {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}
        state = OPTIMIZER.init(params)
        for number in range(steps):
            batch_key, key = jax.random.split(
                jax.random.fold_in(jax.random.key(0), number)
            )
            chosen = jax.random.choice(batch_key, 1297, (64,), replace=False)
            batch = images[chosen], labels[chosen]
            params, state, _ = step(params, state, key, batch)
        logits = images[1297:] @ params["w"] + params["b"]
        accuracies[build.__name__] = float((logits.argmax(-1) == labels[1297:]).mean())
    return accuracies


if __name__ == "__main__":
    for way, accuracy in main().items():
        print(f"{way}: test accuracy {accuracy:.3f}")
