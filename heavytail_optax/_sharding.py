"""Code that leaves the placing of data to XLA, run on arrays whose types say it."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


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
