"""Data parallelism: each device has a part of a batch, and a copy of all else."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..errors import USAGE, JobError

_AXIS = "data"


def data_mesh(devices: int | Literal["all"]) -> Mesh | None:
    """The devices that share a batch; None for one device."""
    found = jax.devices()
    number = len(found) if devices == "all" else devices
    there = f"JAX sees {len(found)} {found[0].platform.upper()} "
    there += "device" if len(found) == 1 else "devices"
    if not 1 <= number <= len(found):
        some = "1" if len(found) == 1 else f"an integer from 1 to {len(found)}"
        raise JobError(
            f"The `devices` option must be all or {some}: {there}. Got {devices} instead.",
            exit_status=USAGE,
        )
    if jax.process_count() > 1 and number < len(found):
        raise JobError(
            "The `devices` option must be all with several processes. "
            f"{there} in all of them. Got {devices} instead.",
            exit_status=USAGE,
        )
    if number == 1:
        return None
    return Mesh(np.array(found[:number]), (_AXIS,), axis_types=(AxisType.Auto,))


def replicate(mesh: Mesh | None, tree: Any) -> Any:
    """Puts a whole pytree on each device."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)))
        values = np.asarray(leaf)
        return jax.make_array_from_callback(
            values.shape, sharding, lambda index: values[index]
        )

    return jax.tree.map(put, tree)


def shard_over_devices(
    mesh: Mesh | None, function: Callable[[Any, Any], jax.Array]
) -> Callable[[Any, Any], jax.Array]:
    """The function on all devices, each with a part of the batch (its second argument)."""
    if mesh is None:
        return function
    on_each, by_example = PartitionSpec(), PartitionSpec(_AXIS)
    on_part = jax.shard_map(
        function, mesh=mesh, in_specs=(on_each, by_example), out_specs=by_example
    )

    def sharded(whole: Any, batch: Any) -> jax.Array:
        number = jax.tree.leaves(batch)[0].shape[0]
        # Copies of the last example fill the batch up; their values are dropped.
        filled = np.minimum(np.arange(number + -number % mesh.size), number - 1)
        batch = jax.tree.map(lambda leaf: leaf[filled], batch)
        # Without this the compiler also shards the little work before and after it,
        # and moves the numbers between the devices.
        batch = jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, on_each))
        values = on_part(whole, batch)
        values = jax.lax.with_sharding_constraint(values, NamedSharding(mesh, on_each))
        return values[:number]

    return sharded


def warm_up_collectives(mesh: Mesh | None) -> None:
    """Connects the devices of several processes; waits for all of them."""
    # They would connect at the first all-reduce, after compilation, which may take one
    # process longer than the 30 seconds that Gloo (on CPUs) waits.
    if mesh is None or jax.process_count() == 1:
        return
    send = jax.jit(shard_over_devices(mesh, lambda _, own: own))
    jax.block_until_ready(send(None, replicate(mesh, np.arange(mesh.size))))
