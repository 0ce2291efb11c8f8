"""Pytrees of updates: their leaves, their prefixes and their mapped axes."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from heavytail_optax._dtypes import computation_dtype, largest_finite
from heavytail_optax._keys import fold_in
from heavytail_optax._typing import AxisNames, AxisNamesTree, PyTree
from heavytail_optax._validation import type_error, value_error

_ACCEPTED_OF_CALL = "None, the name of a mapped axis or a tuple of different names"
_ACCEPTED = (
    "None, the name of a mapped axis, a tuple of different names, or a pytree prefix of "
    "these with None for replicated leaves"
)


def check_leaves(
    function: str,
    leaves: Sequence[PyTree],
    *,
    allow_complex: bool,
    argument: str = "updates",
) -> list[jax.Array]:
    """The leaves as arrays.

    Raises:
      TypeError: if a leaf is not a floating array, or is complex where that is refused.
    """
    accepted = "a pytree of floating" + (" or complex" * allow_complex) + " arrays"
    kind = jnp.inexact if allow_complex else jnp.floating
    arrays = []
    for leaf in leaves:
        dtype = getattr(leaf, "dtype", None)
        if dtype is None and isinstance(leaf, (float, complex)):
            dtype = jnp.result_type(leaf)
        if dtype is None or not jnp.issubdtype(dtype, kind):
            raise type_error(f"{function}.update", argument, accepted, leaf)
        arrays.append(jnp.asarray(leaf))
    return arrays


def add_noise(x: jax.Array, noise: jax.Array) -> jax.Array:
    """`x + noise` in the dtype of x. A finite x stays finite, an infinite one infinite.

    The sum is computed in at least float32 and clipped to the finite range of the
    dtype.
    """
    wide = computation_dtype(x.dtype)
    bound = jnp.asarray(largest_finite(x.dtype), wide)
    total = x.astype(wide) + noise.astype(wide)
    finite = jnp.where(jnp.isinf(x), total, jnp.clip(total, -bound, bound))
    return finite.astype(x.dtype)


def prefix_indices(
    function: str,
    argument: str,
    prefix: PyTree,
    tree: PyTree,
    is_leaf: Callable[[object], bool] | None = None,
    of: str = "the updates",
) -> list[int]:
    """For each leaf of `tree`, in order, which leaf of `prefix` covers it.

    Raises:
      ValueError: if `prefix` is not a prefix of `tree`.
    """
    # Not `jax.tree.broadcast`: it applies `is_leaf` to `tree` too, so it would count a
    # None there, which is no leaf of the updates.
    structure = jax.tree.structure(prefix, is_leaf=is_leaf)
    try:
        subtrees = structure.flatten_up_to(tree)
    except ValueError:
        raise value_error(
            function,
            argument,
            f"a pytree prefix of {of}, which are {jax.tree.structure(tree)}",
            prefix,
        ) from None
    return [
        index
        for index, subtree in enumerate(subtrees)
        for _ in jax.tree.leaves(subtree)
    ]


def broadcast_prefix(
    function: str,
    argument: str,
    prefix: PyTree,
    tree: PyTree,
    is_leaf: Callable[[object], bool] | None = None,
    of: str = "the updates",
) -> list[PyTree]:
    """For each leaf of `tree`, in order, the leaf of `prefix` that covers it.

    Raises:
      ValueError: if `prefix` is not a prefix of `tree`.
    """
    leaves = jax.tree.leaves(prefix, is_leaf=is_leaf)
    indices = prefix_indices(function, argument, prefix, tree, is_leaf, of)
    return [leaves[index] for index in indices]


def _is_axis_spec(node: object) -> bool:
    # A NamedTuple is not an axis spec: it may be a prefix of parameters of that type.
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
    """The mapped axes as a tuple, for functions with one setting for the whole call.

    Raises:
      TypeError: if `axis_name` is not None, a name or a tuple of names.
      ValueError: if a name occurs twice.
    """
    _check_spec(function, axis_name, _ACCEPTED_OF_CALL, axis_name)
    return _as_tuple(axis_name)


def check_axis_name(function: str, axis_name: AxisNamesTree) -> None:
    """Checks that every leaf of `axis_name` names axes, each once, or is None.

    Raises:
      TypeError: if a leaf is anything else.
      ValueError: if a name occurs twice in a leaf.
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
    """The tree, cast to vary over the axes where `shard_map` tracks that."""
    for axis in axes:
        tree = jax.tree.map(lambda x, axis=axis: _vary(x, axis), tree)
    return tree


def _vary(x: jax.Array, axis: str) -> jax.Array:
    try:
        return jax.lax.pcast(x, axis, to="varying")
    except ValueError:  # it varies already
        return x


def vary_like(tree: PyTree, example: jax.Array) -> PyTree:
    """The same values, cast to vary over the same `shard_map` axes as the example.

    A loop needs this if its first values are constants and later ones depend on data.

    Args:
      tree: a pytree of arrays.
      example: an array of shape (), or of their shape.
    """
    is_any = jnp.isnan(example)
    return jax.tree.map(lambda x: jnp.where(is_any, x, x), tree)


def fold_in_axes(key: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """A different key on each shard; without axes, the key itself."""
    for axis in axes:
        key = fold_in(key, jax.lax.axis_index(axis))
    return key
