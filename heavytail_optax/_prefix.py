"""Pytree prefixes: one setting for a whole subtree of the parameters."""

from collections.abc import Callable
from typing import Any

import jax

from heavytail_optax._validation import value_error


def broadcast_prefix(
    function: str,
    argument: str,
    prefix: Any,
    tree: Any,
    is_leaf: Callable[[Any], bool] | None = None,
) -> list[Any]:
    """The leaf of `prefix` that stands above each leaf of `tree`, in its order.

    Raises:
      ValueError: if `prefix` is not a prefix of `tree`.
    """
    try:
        full = jax.tree.broadcast(prefix, tree, is_leaf=is_leaf)
    except ValueError:
        raise value_error(
            function,
            argument,
            f"a pytree prefix of the updates, which are {jax.tree.structure(tree)}",
            prefix,
        ) from None
    return jax.tree.leaves(full, is_leaf=is_leaf)
