"""Settings that are a constant, an array or a schedule: checked, then read off.

A schedule is a function from the step, an int32 scalar, to the value. What it returns
is known when the first update is traced, so it is checked there.
"""

from typing import Any

import jax
import jax.numpy as jnp

from heavytail_optax._prefix import broadcast_prefix
from heavytail_optax._validation import check_scalar, in_float32, type_error

ACCEPTED_SCALE = "a non-negative number, finite in float32, or a schedule"
ACCEPTED_SCALES = f"{ACCEPTED_SCALE}, or a pytree of them"
ACCEPTED_MAX_NORM = "a positive number or a schedule"


def _is_scale(value: float) -> bool:
    return 0.0 <= in_float32(value) < float("inf")


def _is_setting(node: Any) -> bool:
    """Whether a node is no subtree; a `jax.tree_util.Partial` is both a schedule and one."""
    return node is None or callable(node)


def check_scale(function: str, scale: Any, accepted: str = ACCEPTED_SCALE) -> None:
    """Checks a scale that is one number, array or schedule."""
    if not callable(scale):
        check_scalar(function, "scale", scale, accepted, _is_scale)


def check_scales(function: str, scale: Any) -> None:
    """Checks each leaf of `scale`, which may be a pytree."""
    leaves = jax.tree.leaves(scale, is_leaf=_is_setting)
    for leaf in leaves:
        check_scale(function, leaf, ACCEPTED_SCALES)
    if not leaves:
        raise type_error(function, "scale", ACCEPTED_SCALES, scale)


def scale_at(function: str, scale: Any, count: jax.Array) -> jax.Array:
    """The scale at step `count`; NaN where it is traced and negative or infinite."""
    value = scale(count) if callable(scale) else scale
    check_scalar(function, "scale", value, ACCEPTED_SCALE, _is_scale)
    value = jnp.asarray(value, float)
    return jnp.where((value >= 0.0) & (value < jnp.inf), value, jnp.nan)


def scales_at(
    function: str, scale: Any, count: jax.Array, tree: Any
) -> list[jax.Array]:
    """The scale of each leaf of `tree` at step `count`."""
    values = {}
    leaves = broadcast_prefix(function, "scale", scale, tree, _is_setting)
    for leaf in leaves:
        if id(leaf) not in values:
            values[id(leaf)] = scale_at(function, leaf, count)
    return [values[id(leaf)] for leaf in leaves]


def check_max_norm(function: str, max_norm: Any) -> None:
    """Checks a bound that is a number; an infinite one never truncates."""
    if not callable(max_norm):
        check_scalar(
            function,
            "max_norm",
            max_norm,
            ACCEPTED_MAX_NORM,
            lambda b: in_float32(b) > 0.0,
        )


def max_norm_at(function: str, max_norm: Any, count: jax.Array) -> jax.Array:
    """The bound at step `count`; NaN where it is traced and not positive."""
    value = max_norm(count) if callable(max_norm) else max_norm
    check_max_norm(function, value)
    value = jnp.asarray(value, float)
    return jnp.where(value > 0.0, value, jnp.nan)
