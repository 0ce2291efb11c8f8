"""Pytree prefixes: one setting for a whole subtree of the parameters."""

from collections.abc import Callable

import jax

from heavytail_optax._typing import PyTree
from heavytail_optax._validation import value_error


def broadcast_prefix(
    function: str,
    argument: str,
    prefix: PyTree,
    tree: PyTree,
    is_leaf: Callable[[object], bool] | None = None,
) -> list[PyTree]:
    """The leaf of `prefix` that stands above each leaf of `tree`, in its order.

    Raises:
      ValueError: if `prefix` is not a prefix of `tree`.
    """
    # Not `jax.tree.broadcast`: it takes what `is_leaf` says for a leaf of `tree` too,
    # hence counts a None there, which is no leaf of the updates.
    leaves, structure = jax.tree.flatten(prefix, is_leaf=is_leaf)
    try:
        subtrees = structure.flatten_up_to(tree)
    except ValueError:
        raise value_error(
            function,
            argument,
            f"a pytree prefix of the updates, which are {jax.tree.structure(tree)}",
            prefix,
        ) from None
    return [
        leaf
        for leaf, subtree in zip(leaves, subtrees, strict=True)
        for _ in jax.tree.leaves(subtree)
    ]
