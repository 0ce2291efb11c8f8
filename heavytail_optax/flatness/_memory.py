"""How many evaluations of a function can run in parallel within a memory budget."""

from collections.abc import Callable, Iterable

import jax
from jax.extend.core import Jaxpr, jaxprs_in_params

from heavytail_optax._typing import PyTree

MEMORY_BUDGET = 2**29
"""Bytes that parallel evaluations may take, by the estimate below: 512 MiB."""


def _bytes(variables: Iterable[PyTree]) -> int:
    shaped = [v.aval for v in variables if hasattr(v.aval, "dtype")]
    return sum(aval.size * aval.dtype.itemsize for aval in shaped)


def _largest_equation(jaxpr: Jaxpr) -> int:
    """Bytes that the largest operation reads and writes, inner functions included."""
    largest = 0
    for equation in jaxpr.eqns:
        own = _bytes(equation.invars) + _bytes(equation.outvars)
        inner = map(_largest_equation, jaxprs_in_params(equation.params))
        largest = max(largest, max(inner, default=own))
    return largest


def evaluations_at_once(function: Callable[..., PyTree], *args: PyTree) -> int:
    """How many evaluations fit in the budget, at least one.

    One evaluation is assumed to need what its largest operation reads and writes. That
    is an estimate: it ignores what XLA fuses and what it keeps for later.

    Args:
      function: the function to evaluate.
      *args: its arguments, or their shapes and dtypes.
    """
    needed = _largest_equation(jax.make_jaxpr(function)(*args).jaxpr)
    return max(1, MEMORY_BUDGET // max(needed, 1))
