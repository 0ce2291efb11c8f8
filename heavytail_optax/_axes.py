"""Names of mapped axes, for parameters sharded inside shard_map or pmap."""

import jax
import jax.numpy as jnp

from heavytail_optax._prefix import broadcast_prefix
from heavytail_optax._typing import AxisNames, AxisNamesTree, PyTree
from heavytail_optax._validation import type_error, value_error

_ACCEPTED_OF_CALL = "None, the name of a mapped axis or a tuple of different names"
_ACCEPTED = (
    "None, the name of a mapped axis, a tuple of different names, or a pytree prefix of "
    "these with None for replicated leaves"
)


def _is_axis_spec(node: object) -> bool:
    # A NamedTuple is a prefix of parameters that are one.
    return (
        node is None
        or isinstance(node, str)
        or (
            type(node) is tuple
            and len(node) > 0
            and all(isinstance(name, str) for name in node)
        )
    )


def _check_spec(function: str, spec: object, accepted: str, axis_name: object) -> None:
    if not _is_axis_spec(spec):
        raise type_error(function, "axis_name", accepted, axis_name)
    names = _as_tuple(spec)
    if len(set(names)) < len(names):
        raise value_error(function, "axis_name", accepted, axis_name)


def _as_tuple(spec: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if spec is None:
        return ()
    return (spec,) if isinstance(spec, str) else spec


def check_axes_of_call(function: str, axis_name: AxisNames) -> tuple[str, ...]:
    """The mapped axes as a tuple, where one setting serves the whole call.

    Raises:
      TypeError: if `axis_name` is not None, a name or a tuple of names.
      ValueError: if a name comes twice.
    """
    _check_spec(function, axis_name, _ACCEPTED_OF_CALL, axis_name)
    return _as_tuple(axis_name)


def check_axis_name(function: str, axis_name: AxisNamesTree) -> None:
    """Checks that every leaf of `axis_name` names axes, each once, or is None.

    Raises:
      TypeError: if one is anything else.
      ValueError: if a name comes twice in one.
    """
    for leaf in jax.tree.leaves(axis_name, is_leaf=_is_axis_spec):
        _check_spec(function, leaf, _ACCEPTED, axis_name)


def axes_of_leaves(
    function: str, axis_name: AxisNamesTree, tree: PyTree
) -> list[tuple[str, ...]]:
    """The mapped axes over which each leaf of `tree` is sharded."""
    specs = broadcast_prefix(function, "axis_name", axis_name, tree, _is_axis_spec)
    return [_as_tuple(spec) for spec in specs]


def vary_over_axes(tree: PyTree, axes: tuple[str, ...]) -> PyTree:
    """The tree, cast to vary over the axes where `shard_map` keeps account of that."""
    for axis in axes:
        tree = jax.tree.map(lambda x, axis=axis: _vary(x, axis), tree)
    return tree


def _vary(x: jax.Array, axis: str) -> jax.Array:
    try:
        return jax.lax.pcast(x, axis, to="varying")
    except ValueError:  # it varies already
        return x


def vary_like(tree: PyTree, example: jax.Array) -> PyTree:
    """The same values, cast to vary over the axes of `shard_map` that the example does.

    A loop that begins with constants and goes on with data asks for it.

    Args:
      tree: of arrays.
      example: of shape (), or of theirs.
    """
    is_any = jnp.isnan(example)
    return jax.tree.map(lambda x: jnp.where(is_any, x, x), tree)


def fold_in_axes(key: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """A key of its own on each shard; the key itself where there are no axes."""
    for axis in axes:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    return key
