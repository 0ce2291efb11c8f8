"""Registers tails as pytrees. The leaves are the parameters."""

import dataclasses
from typing import Any, TypeVar

import jax

_Class = TypeVar("_Class", bound=type[Any])


def register_tail(cls: _Class) -> _Class:
    """Registers a frozen dataclass as a pytree; its name is part of the structure.

    This does not use `jax.tree_util.register_dataclass`: in jax 0.10, the structures of
    two dataclasses with equal field names compare equal. So `jit` may run the program
    that it compiled for another law.
    """
    names = tuple(field.name for field in dataclasses.fields(cls))

    def flatten_with_keys(tail):
        leaves = ((jax.tree_util.GetAttrKey(n), getattr(tail, n)) for n in names)
        return tuple(leaves), cls.__qualname__

    def flatten(tail):
        return tuple(getattr(tail, name) for name in names), cls.__qualname__

    def unflatten(_, leaves):
        return cls(*leaves)

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
