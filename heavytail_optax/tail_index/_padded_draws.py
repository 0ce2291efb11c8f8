"""The largest draws, padded to few sizes, so that few programs serve all sizes.

XLA compiles a program for each shape, which takes far longer than to run it. So the
largest draws are found on the host, and the program sees only these, padded. How many of
them count it gets as a number. Inside `jit` and on several devices nothing is padded.
"""

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax.tail_index._centring import largest_in_full
from heavytail_optax.tail_index._order_statistics import largest

# With more draws, a search on the device is worth its compilation.
_MOST_ON_HOST = 2**20
_LEAST = 64


def rounded_up(count: int) -> int:
    """At least `count`, of two binary digits and zeros: 64, 96, 128, 192, 256, ..."""
    step = 2 ** max(0, (max(count, _LEAST) - 1).bit_length() - 2)
    return step * -(-max(count, _LEAST) // step)


def is_on_host(samples: jax.Array | np.ndarray) -> bool:
    """Whether the samples are cheap to read from the host: no tracers, one device."""
    if isinstance(samples, jax.core.Tracer) or samples.size > _MOST_ON_HOST:
        return False
    return isinstance(samples, np.ndarray) or len(samples.devices()) == 1


def largest_padded(samples: jax.Array, count: int) -> jax.Array:
    """The `count` largest draws along the last axis, in descending order, and others.

    Args:
      samples: shape (..., n).
      count: at most n.

    Returns:
      Shape (..., m), m at least `count`. Only the first `count` mean something; the
      others are no larger.
    """
    if isinstance(samples, jax.core.Tracer):
        return largest(samples, count)
    if not is_on_host(samples):
        return largest(samples, min(rounded_up(count), samples.shape[-1]))
    top = largest_in_full(np.asarray(jax.device_get(samples)), count)
    room = [(0, 0)] * (top.ndim - 1) + [(0, rounded_up(count) - count)]
    device = samples.sharding if samples.committed else None
    padded = np.pad(top, room, constant_values=-np.inf)
    return jax.device_put(padded, device)


def as_traced(value: float, dtype: jax.typing.DTypeLike = jnp.int32) -> jax.Array:
    """A number as an array, so that no program is compiled for each value."""
    return jnp.asarray(np.asarray(value, dtype))
