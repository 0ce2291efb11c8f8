"""The bounds of the update norm: constant, scheduled, adaptive, or none."""

import jax
import jax.numpy as jnp

from heavytail_optax import _adaptive_max_norm
from heavytail_optax._adaptive_max_norm import NO_BOUND, AdaptiveMaxNorm
from heavytail_optax._schedules import check_max_norm, is_partial, max_norm_at
from heavytail_optax._typing import MaxNormTree, ScaleOrSchedule
from heavytail_optax._validation import type_error

Bound = ScaleOrSchedule | AdaptiveMaxNorm | None

_ACCEPTED = (
    "a positive number, a schedule, `adaptive_max_norm(...)`, or a pytree of them with "
    "None for no bound"
)


def is_max_norm(node: object) -> bool:
    """Whether a node of the prefix is the bound of a group, though JAX flattens it."""
    return node is None or is_partial(node)


def check_max_norms(function: str, max_norm: MaxNormTree) -> None:
    """Checks the bound of each group.

    Raises:
      TypeError: if one is not a bound, or there is none.
      ValueError: if one is not positive or not a scalar.
    """
    bounds = jax.tree.leaves(max_norm, is_leaf=is_max_norm)
    if max_norm is None or not bounds:
        raise type_error(function, "max_norm", _ACCEPTED, max_norm)
    for bound in bounds:
        if bound is not None and not isinstance(bound, AdaptiveMaxNorm):
            check_max_norm(function, bound, _ACCEPTED)


def _as_state(bound: jax.Array) -> jax.Array:
    return jnp.minimum(bound, NO_BOUND).astype(jnp.float32)


def first_bound(function: str, bound: Bound) -> jax.Array:
    """What the state holds before the first update."""
    if isinstance(bound, AdaptiveMaxNorm):
        return _adaptive_max_norm.first_bound(bound)
    start, known = jnp.zeros((), jnp.int32), jnp.zeros(())
    return _as_state(bound_at(function, bound, known, start, known > 0.0))


def bound_at(
    function: str,
    bound: Bound,
    known: jax.Array,
    count: jax.Array,
    is_infinite: jax.Array,
) -> jax.Array:
    """The bound that the update number `count` gets, with `known` in the state."""
    if bound is None:
        return jnp.asarray(jnp.inf, float)
    if isinstance(bound, AdaptiveMaxNorm):
        return _adaptive_max_norm.bound_to_apply(known, is_infinite)
    return max_norm_at(function, bound, count)


def next_bound(
    bound: Bound,
    known: jax.Array,
    applied: jax.Array,
    count: jax.Array,
    norm: jax.Array,
) -> jax.Array:
    """What the state holds after an update of that norm."""
    if isinstance(bound, AdaptiveMaxNorm):
        return _adaptive_max_norm.next_bound(bound, known, count, norm)
    return _as_state(applied)
