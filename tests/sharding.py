"""Arguments spread over eight devices, and results compared with those of one."""

import contextlib
import inspect

import jax
import numpy as np
from collectives import collectives

KINDS = {
    "explicit": jax.sharding.AxisType.Explicit,  # what `jax.make_mesh` makes
    "auto": jax.sharding.AxisType.Auto,
}


def make_mesh(kind):
    """Four devices along the data by two along the model."""
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(KINDS[kind],) * 2)


def place(mesh, tree, specs):
    """A tree with each leaf spread as its own spec says, or all as the one spec."""
    if isinstance(specs, jax.P):
        specs = jax.tree.map(lambda _: specs, tree)
    return jax.tree.map(
        lambda x, spec: jax.device_put(x, jax.NamedSharding(mesh, spec)), tree, specs
    )


def public_functions(namespace):
    """The names of all public functions, classes left out."""
    return {
        name
        for name in namespace.__all__
        if inspect.isfunction(getattr(namespace, name))
    }


def names_of(cases):
    """The functions of a table whose keys are `function` or `function/variant`."""
    return {name.split("/")[0] for name in cases}


def run(function, arguments, mesh, *, compiled, set_mesh):
    """What the function returns, and how much is sent, by the kind of collective."""
    with jax.set_mesh(mesh) if set_mesh else contextlib.nullcontext():
        if not compiled:
            return function(*arguments), {}
        program = jax.jit(function).lower(*arguments).compile()
        return program(*arguments), collectives(program.as_text())


def assert_equal_up_to(tolerance, got, expected):
    """Leaf by leaf, in units of the largest entry; what is no float is equal."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype
        if not np.issubdtype(y.dtype, np.floating):
            np.testing.assert_array_equal(x, y)
            continue
        size = np.max(np.abs(y), where=np.isfinite(y), initial=0.0)
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * size)
