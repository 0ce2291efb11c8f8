"""The sharding in the type of an array, which only explicit sharding has.

`jax.make_mesh` makes explicit axes by default. On axes of the other kind, `Auto`, the
compiler chooses the shardings, so the types do not show them.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def explicit_sharding(x: jax.Array) -> jax.sharding.NamedSharding | None:
    """The sharding in the type of an array, or None if the compiler chooses it.

    Pass it as `out_sharding` to a function that makes an array like x.
    """
    sharding = jax.typeof(x).sharding
    explicit = jax.sharding.AxisType.Explicit
    return sharding if explicit in sharding.mesh.axis_types else None


def spec_of(x: jax.Array, *spec: object) -> jax.sharding.NamedSharding | None:
    """Another sharding on the devices of x: one entry per dimension, None for the rest.

    The result is None if the compiler chooses.
    """
    sharding = explicit_sharding(x)
    if sharding is None:
        return None
    return jax.sharding.NamedSharding(sharding.mesh, jax.P(*spec))


def zeros_like(x: jax.Array, dtype: DTypeLike, *stacked: int) -> jax.Array:
    """Zeros with the shape of x after the axes `stacked`, sharded like x in their type.

    Where no mesh is set, constants of jax 0.12 have no sharding inside `jax.jit`, even
    if one is asked for.
    """
    zeros = jnp.broadcast_to(jnp.zeros_like(x, dtype), (*stacked, *x.shape))
    sharding = explicit_sharding(x)
    if sharding is None:
        return zeros
    return jax.reshard(zeros, spec_of(x, *[None] * len(stacked), *sharding.spec))


def replicated(x: jax.Array) -> jax.Array:
    """x replicated on every device. It is an all-gather, so only for small arrays."""
    whole = spec_of(x, *[None] * x.ndim)
    return x if whole is None else jax.reshard(x, whole)


def num_shards(x: jax.Array) -> int:
    """The number of parts into which the type of an array splits its first axis."""
    sharding = explicit_sharding(x)
    if sharding is None or x.ndim == 0:
        return 1
    names = sharding.spec[0] or ()
    names = (names,) if isinstance(names, str) else names
    return math.prod(sharding.mesh.shape[name] for name in names)


def rows(x: jax.Array, indices: jax.Array) -> jax.Array:
    """`x[indices]` along the first axis, split as x is if the number of rows allows it.

    Rows are sent to the devices that need them.
    """
    sharding = explicit_sharding(x)
    if sharding is None:
        return x[indices]
    first, *rest = sharding.spec
    is_even = indices.shape[0] % num_shards(x) == 0
    wanted = spec_of(x, first if is_even else None, *rest)
    return x.at[indices].get(out_sharding=wanted)
