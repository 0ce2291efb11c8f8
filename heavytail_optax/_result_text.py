"""How results print: numbers with their errors, where they are single numbers."""

import dataclasses
import math
import textwrap

import jax
import jax.numpy as jnp
import numpy as np


def is_one_number(value: object) -> bool:
    """Whether it is one number that is known: no batch, and not traced."""
    is_array = isinstance(value, (float, np.generic, np.ndarray, jax.Array))
    return is_array and not isinstance(value, jax.core.Tracer) and not jnp.ndim(value)


def with_error(mean: jax.Array, standard_error: jax.Array) -> str:
    """`0.0012 ± 0.0001`; without an error that is not known."""
    error = float(standard_error)
    return f"{mean:.4g}" if math.isnan(error) else f"{mean:.4g} ± {error:.2g}"


def zero_hessian(what: str) -> str:
    """What to say where everything that was measured of the Hessian is exactly zero."""
    return f"; {what} is exactly zero: is the loss piecewise constant, or linear?"


_FEW = 6  # so many numbers of an array are shown
_LINE_WIDTH = 88
_LONGEST_TEXT = 40


def short_repr(result: object) -> str:
    """The `__repr__` of a result: its fields by name, each in a few words.

    A number is shown as such, and so is an array of at most six. A larger array is its
    dtype and shape, and a container is its number of leaves.
    """
    return textwrap.fill(
        _fields_of(result),
        _LINE_WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _fields_of(result: object) -> str:
    names = getattr(result, "_fields", None)
    if names is None:
        names = [field.name for field in dataclasses.fields(result)]
    fields = ", ".join(f"{name}={_in_short(getattr(result, name))}" for name in names)
    return f"{type(result).__name__}({fields})"


def _in_short(value: object) -> str:
    if value is None or isinstance(value, (str, bool, int)):
        text = repr(value)
        return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
    if isinstance(value, (float, np.generic, np.ndarray, jax.Array)):
        return _array_in_short(value)
    if getattr(type(value), "__repr__", None) is short_repr:
        return _fields_of(value)
    leaves = jax.tree.leaves(value)
    if len(leaves) == 1 and leaves[0] is value:
        return getattr(value, "__name__", type(value).__name__)
    count = f"{len(leaves)} {'leaf' if len(leaves) == 1 else 'leaves'}"
    return f"<{type(value).__name__} of {count}>"


def _array_in_short(value: float | np.generic | np.ndarray | jax.Array) -> str:
    is_traced = isinstance(value, jax.core.Tracer)
    dtype = getattr(value, "dtype", np.dtype(float))
    is_plain = isinstance(dtype, np.dtype)  # a key's dtype is not
    if is_traced or not (is_plain and np.size(value) <= _FEW and _is_here(value)):
        kind = f"{dtype}[{','.join(str(size) for size in np.shape(value))}]"
        return f"Traced<{kind}>" if is_traced else kind
    return _numbers(np.asarray(value).tolist())


def _is_here(value: object) -> bool:
    """Whether all of it is on this host."""
    return getattr(value, "is_fully_addressable", True)


def _numbers(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_numbers(each) for each in value)}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
