"""Elementwise programs on a CPU, as one loop over a flat array.

XLA for CPUs runs an elementwise program as loops over the dimensions of its result, and
vectorises the innermost one. With a last dimension of 2 or 3, the program is scalar. A
reshape at its end does not help, as XLA makes it part of the loops. Also, a result that
two others read may be computed twice, once within each.

Both stop if the program is a function of its own that XLA does not merge into what
calls it: here, a call that is marked as not to be inlined.
"""

from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from heavytail_optax._sharding import explicit_sharding

_MAX_SIZE = 2**32  # positions along one dimension are counted by 32 bits


def _is_on_one_cpu(x: jax.Array) -> bool:
    one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    # A flat array has another sharding, even on a mesh of one device.
    return one_cpu and explicit_sharding(x) is None


def computed_once(
    function: Callable[..., jax.Array], *arrays: jax.Array, may_flatten: bool = True
) -> jax.Array:
    """`function(*arrays)` for an elementwise function, in a flat loop on one CPU.

    On other devices it is just that: a GPU has no such loops, and flattening an array
    that is spread over several devices may gather it. The devices of the process that
    traces decide: exported to another platform from a host with one CPU, the program is
    right, and flat.

    Args:
      function: compiled by `jax.jit`.
      *arrays: arrays of one shape.
      may_flatten: whether the function gives the same elements for flat arrays.

    Returns:
      An array of their shape.
    """
    if not _is_on_one_cpu(arrays[0]):
        return function(*arrays)
    shape, size = arrays[0].shape, arrays[0].size
    if may_flatten and size <= _MAX_SIZE:
        arrays = tuple(x.ravel() for x in arrays)
    return set_xla_metadata(function(*arrays), inlineable="false").reshape(shape)
