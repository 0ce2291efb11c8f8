"""The sharding that an array has in its type: under explicit sharding alone.

`jax.make_mesh` makes axes of this kind by default. On axes of the other kind, `Auto`,
the compiler chooses shardings, and there is nothing to say or to see here.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


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
    return sharding and jax.sharding.NamedSharding(sharding.mesh, jax.P(*spec))


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


def _explicit_mesh(leaves: list[Any]) -> Any:
    """The mesh with explicit axes, of the context or of an array; None without one."""
    arrays = [x for x in leaves if isinstance(x, jax.Array)]
    meshes = [jax.typeof(x).sharding.mesh for x in arrays]
    for mesh in [jax.sharding.get_abstract_mesh(), *meshes]:
        if jax.sharding.AxisType.Explicit in mesh.axis_types:
            return mesh
    return None


def on_auto_axes(
    function: Callable[_Arguments, _Result],
) -> Callable[_Arguments, _Result]:
    """The function, with the explicit axes of a mesh taken for Auto ones in it.

    Sorts, searches and reshapes along a sharded axis have no rule for where their result
    lies, so that JAX refuses them where shardings are part of the types. Inside of the
    function XLA decides, as it does on a mesh with Auto axes. Every array that it returns
    lies whole on each device, so it is for results that are small.
    """

    @functools.wraps(function)
    def wrapped(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        leaves, structure = jax.tree.flatten((args, kwargs))
        mesh = _explicit_mesh(leaves)
        if mesh is None:
            return function(*args, **kwargs)
        places = [
            i
            for i, x in enumerate(leaves)
            if isinstance(x, jax.Array) and not jax.typeof(x).sharding.mesh.empty
        ]
        others = {}  # what is returned beside arrays, such as a sentence

        def on_arrays(*arrays):
            given = list(leaves)
            for i, x in zip(places, arrays, strict=True):
                given[i] = x
            again_args, again_kwargs = jax.tree.unflatten(structure, given)
            returned = function(*again_args, **again_kwargs)
            out, others["structure"] = jax.tree.flatten(returned)
            others["leaves"] = out
            return [x for x in out if isinstance(x, jax.Array)]

        whole = jax.sharding.NamedSharding(mesh, jax.P())
        on_arrays = jax.sharding.auto_axes(
            on_arrays, axes=mesh.explicit_axes, out_sharding=whole
        )
        arrays = iter(on_arrays(*(leaves[i] for i in places)))
        out = [
            next(arrays) if isinstance(x, jax.Array) else x for x in others["leaves"]
        ]
        return jax.tree.unflatten(others["structure"], out)

    return wrapped
