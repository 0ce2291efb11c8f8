"""The sharding that an array has in its type: under explicit sharding alone.

`jax.make_mesh` makes axes of this kind by default. On axes of the other kind, `Auto`,
the compiler chooses shardings, and there is nothing to say or to see here.
"""

import math

import jax


def explicit_sharding(x: jax.Array) -> jax.sharding.NamedSharding | None:
    """The sharding in the type of an array, or None where the compiler chooses.

    Give it as `out_sharding` to what makes an array like x.
    """
    sharding = jax.typeof(x).sharding
    explicit = jax.sharding.AxisType.Explicit
    return sharding if explicit in sharding.mesh.axis_types else None


def spec_of(x: jax.Array, *spec: object) -> jax.sharding.NamedSharding | None:
    """Another sharding on the devices of x: one entry a dimension, None for the rest.

    None itself where the compiler chooses.
    """
    sharding = explicit_sharding(x)
    if sharding is None:
        return None
    return jax.sharding.NamedSharding(sharding.mesh, jax.P(*spec))


def stacked_sharding(x: jax.Array) -> jax.sharding.NamedSharding | None:
    """The sharding of several arrays like x behind one first axis, or None."""
    sharding = explicit_sharding(x)
    return None if sharding is None else spec_of(x, None, *sharding.spec)


def replicated(x: jax.Array) -> jax.Array:
    """x with all of it on every device: an all-gather, so only for what is small."""
    whole = spec_of(x, *[None] * x.ndim)
    return x if whole is None else jax.reshard(x, whole)


def num_shards(x: jax.Array) -> int:
    """Into how many parts the type of an array says that its first axis is split."""
    sharding = explicit_sharding(x)
    if sharding is None or x.ndim == 0:
        return 1
    names = sharding.spec[0] or ()
    names = (names,) if isinstance(names, str) else names
    return math.prod(sharding.mesh.shape[name] for name in names)


def rows(x: jax.Array, indices: jax.Array) -> jax.Array:
    """`x[indices]` along the first axis, split as x where the number of rows allows it.

    The rows are sent to where they are needed.
    """
    sharding = explicit_sharding(x)
    if sharding is None:
        return x[indices]
    first, *rest = sharding.spec
    is_even = indices.shape[0] % num_shards(x) == 0
    wanted = spec_of(x, first if is_even else None, *rest)
    return x.at[indices].get(out_sharding=wanted)
