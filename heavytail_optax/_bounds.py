"""The bounds of the update norm: constant, scheduled, adaptive, or none."""

from collections.abc import Sequence

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


def next_bounds(
    bounds: Sequence[Bound],
    known: Sequence[jax.Array],
    applied: Sequence[jax.Array],
    count: jax.Array,
    norms: jax.Array,
) -> list[jax.Array]:
    """What the state holds for each group after updates of those norms."""
    moved = [_as_state(bound) for bound in applied]
    alike: dict[AdaptiveMaxNorm, list[int]] = {}
    for group, bound in enumerate(bounds):
        if isinstance(bound, AdaptiveMaxNorm):
            alike.setdefault(bound, []).append(group)
    for settings, groups in alike.items():
        own = jnp.stack([known[group] for group in groups])
        own_norms = jnp.stack([norms[group] for group in groups])
        own = _adaptive_max_norm.next_bound(settings, own, count, own_norms)
        # Computed once: XLA would do so again for each scalar of the state.
        own = jax.lax.optimization_barrier(own) if len(groups) > 1 else own
        for place, group in enumerate(groups):
            moved[group] = own[place]
    return moved
