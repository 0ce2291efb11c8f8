"""Checks and reads settings that are a constant, an array or a schedule.

A schedule is a function from the step, an int32 scalar, to the value. What it returns
is known only when the first update is traced, so it is checked there. A pytree is not a
schedule, even if it can be called, as a model made of numbers can: it is a tree of
settings.
"""

import jax
import jax.numpy as jnp

from heavytail_optax._pytrees import broadcast_prefix
from heavytail_optax._typing import PyTree, Scalar, ScaleOrSchedule, ScaleTree
from heavytail_optax._validation import (
    check_called,
    check_scalar,
    in_float32,
    is_function,
    type_error,
)

ACCEPTED_SCALE = "a non-negative number, finite in float32, or a schedule"
ACCEPTED_SCALES = f"{ACCEPTED_SCALE}, or a pytree of them"
ACCEPTED_MAX_NORM = "a positive number or a schedule"

# A schedule that ends at zero may miss it. Compiled, `optax.linear_schedule(1.0, 0.0,
# n)` ends at -5e-8, because XLA fuses the last subtraction with the product before it.
_ROUNDING = 1e-6


def not_negative(value: Scalar) -> jax.Array:
    """The value; 0 if it is negative by rounding only, NaN if it is truly negative."""
    return jnp.where(value >= 0.0, value, jnp.where(value > -_ROUNDING, 0.0, jnp.nan))


def _is_scale(value: float) -> bool:
    return 0.0 <= in_float32(value) < float("inf")


def is_partial(node: object) -> bool:
    """Whether a node is a schedule that JAX would flatten."""
    return isinstance(node, jax.tree_util.Partial)


def check_scale(
    function: str, scale: ScaleOrSchedule, accepted: str = ACCEPTED_SCALE
) -> None:
    """Checks a single scale: a number, an array or a schedule."""
    check_called(function, "scale", scale, accepted)
    if not is_function(scale):
        check_scalar(function, "scale", scale, accepted, _is_scale)


def check_scales(function: str, scale: ScaleTree) -> None:
    """Checks each leaf of `scale`, which may be a pytree.

    A None in it is checked in the first update, because it is allowed where the updates
    have no leaf.
    """
    leaves = jax.tree.leaves(scale, is_leaf=is_partial)
    for leaf in leaves:
        check_scale(function, leaf, ACCEPTED_SCALES)
    if not leaves:
        raise type_error(function, "scale", ACCEPTED_SCALES, scale)


def scale_at(function: str, scale: ScaleOrSchedule, count: jax.Array) -> jax.Array:
    """The scale at step `count`; NaN if it is traced and not a scale in float32."""
    value = scale(count) if is_function(scale) else scale
    accepted = "a schedule to non-negative numbers, finite in float32"
    check_scalar(function, "scale", value, accepted, _is_scale)
    value = not_negative(jnp.asarray(value, float))
    return jnp.where(value.astype(jnp.float32) < jnp.inf, value, jnp.nan)


def scales_at(
    function: str, scale: ScaleTree, count: jax.Array, tree: PyTree
) -> list[jax.Array]:
    """The scale of each leaf of `tree` at step `count`."""
    values = {}
    leaves = broadcast_prefix(
        function, "scale", scale, tree, lambda node: node is None or is_partial(node)
    )
    for leaf in leaves:
        if leaf is None:
            accepted = f"{ACCEPTED_SCALE}, for every leaf of the updates"
            raise type_error(function, "scale", accepted, None)
        if id(leaf) not in values:
            values[id(leaf)] = scale_at(function, leaf, count)
    return [values[id(leaf)] for leaf in leaves]


def check_max_norm(
    function: str, max_norm: ScaleOrSchedule, accepted: str = ACCEPTED_MAX_NORM
) -> None:
    """Checks a bound if it is a number. An infinite bound never truncates."""
    check_called(function, "max_norm", max_norm, accepted)
    if not is_function(max_norm):
        check_scalar(
            function,
            "max_norm",
            max_norm,
            accepted,
            lambda b: in_float32(b) > 0.0,
        )


def max_norm_at(
    function: str, max_norm: ScaleOrSchedule, count: jax.Array
) -> jax.Array:
    """The bound at step `count`; NaN if it is traced and negative.

    A traced bound may be zero, at the end of a schedule or the start of a warm-up; the
    update is then zero. As a constant, zero would be a mistake.
    """
    value = max_norm(count) if is_function(max_norm) else max_norm
    accepted = "a schedule to non-negative numbers"
    check_scalar(function, "max_norm", value, accepted, lambda b: b >= 0.0)
    return not_negative(jnp.asarray(value, float))
