"""Runs code without explicit shardings on arrays that have them."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

from heavytail_optax._typing import PyTree

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _is_on_mesh(x: object) -> bool:
    if isinstance(x, jax.core.Tracer):
        return not jax.typeof(x).sharding.mesh.empty
    # The type of an array on one device also holds the mesh of the context.
    return isinstance(x, jax.Array) and isinstance(x.sharding, jax.NamedSharding)


def _explicit_mesh(leaves: list[PyTree]) -> jax.sharding.AbstractMesh | None:
    """The explicit mesh of the context or of an array; None if there is none."""
    meshes = [jax.typeof(x).sharding.mesh for x in leaves if _is_on_mesh(x)]
    for mesh in [jax.sharding.get_abstract_mesh(), *meshes]:
        if mesh.explicit_axes:
            return mesh
    return None


def on_auto_axes(
    function: Callable[_Arguments, _Result],
) -> Callable[_Arguments, _Result]:
    """The function, with the explicit axes of a mesh treated as Auto axes inside it.

    JAX has no rule for the sharding of a sort, search or reshape along a sharded axis,
    so it refuses them where shardings are part of the types. Inside the function XLA
    chooses the shardings, as it does on a mesh with Auto axes. The result is replicated
    on every device, so use this only for functions with small results.
    """

    @functools.wraps(function)
    def wrapped(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        leaves, structure = jax.tree.flatten((args, kwargs))
        mesh = _explicit_mesh(leaves)
        if mesh is None:
            return function(*args, **kwargs)
        given = [x for x in leaves if _is_on_mesh(x)]
        returned = {}  # results that are no arrays, such as a sentence, leave by this

        def of_arrays(*arrays):
            rest = iter(arrays)
            again = [next(rest) if _is_on_mesh(x) else x for x in leaves]
            args, kwargs = jax.tree.unflatten(structure, again)
            out, returned["structure"] = jax.tree.flatten(function(*args, **kwargs))
            returned["others"] = [None if _is_on_mesh(x) else x for x in out]
            return [x for x in out if _is_on_mesh(x)]

        of_arrays = jax.sharding.auto_axes(
            of_arrays,
            axes=mesh.explicit_axes,
            out_sharding=jax.sharding.NamedSharding(mesh, jax.P()),
        )
        rest = iter(of_arrays(*given))
        out = [next(rest) if x is None else x for x in returned["others"]]
        return jax.tree.unflatten(returned["structure"], out)

    return wrapped
