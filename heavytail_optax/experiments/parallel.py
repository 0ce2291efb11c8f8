"""Data parallelism: a batch is spread over the devices, all else is on each of them."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.models import Predict

_AXIS = "data"


class DevicesError(JobError):
    """There are not as many devices as asked for."""


def data_mesh(devices: int | Literal["all"]) -> Mesh | None:
    """The devices that a batch is spread over.

    Args:
      devices: how many, a positive integer; "all" for those of all processes.

    Returns:
      A mesh with one axis; None for one device, which needs none.

    Raises:
      DevicesError: if there are fewer.
    """
    found = jax.devices()
    number = len(found) if devices == "all" else devices
    if not 1 <= number <= len(found):
        raise DevicesError(
            f"The `devices` option must be all or an integer from 1 to {len(found)}, "
            f"the number of {found[0].platform.upper()} devices here. Got {devices} "
            "instead."
        )
    if jax.process_count() > 1 and number < len(found):
        raise DevicesError(
            "The `devices` option must be all where there are several processes. "
            f"Got {devices} instead."
        )
    if number == 1:
        return None
    return Mesh(np.array(found[:number]), (_AXIS,), axis_types=(AxisType.Auto,))


def replicate(mesh: Mesh | None, tree: Any) -> Any:
    """Puts a whole pytree on each device.

    Args:
      mesh: of `data_mesh`.
      tree: of arrays or typed keys, the same in every process.

    Returns:
      The pytree; as it was without a mesh.
    """
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


def of_first_process(number: int) -> int:
    """The number that the first process has, in all of them."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def in_any_process(is_true: bool) -> bool:
    """Whether it is true in one of the processes at least."""
    if jax.process_count() == 1:
        return is_true
    return bool(multihost_utils.process_allgather(np.bool_(is_true)).any())


def spread(mesh: Mesh | None, predict: Predict) -> Predict:
    """A network that computes on all devices, each with a part of the images.

    The number of images need not be a multiple of the number of devices: the last ones
    are joined by black images, whose logits are dropped.

    Args:
      mesh: of `data_mesh`.
      predict: gives logits of shape (n, classes) for parameters and images.

    Returns:
      The same function; `predict` itself without a mesh.
    """
    if mesh is None:
        return predict
    on_each = NamedSharding(mesh, PartitionSpec())
    by_image = NamedSharding(mesh, PartitionSpec(_AXIS))

    def spread_predict(params: Any, images: jax.Array) -> jax.Array:
        number = images.shape[0]
        padding = [(0, -number % mesh.size)] + [(0, 0)] * (images.ndim - 1)
        padded = jax.lax.with_sharding_constraint(jnp.pad(images, padding), by_image)
        logits = jax.lax.with_sharding_constraint(predict(params, padded), on_each)
        return logits[:number]

    return spread_predict
