"""The Euclidean norm of a pytree, without overflow or underflow, in one reduction.

The plain sum of squares is right unless it leaves the range of the dtype. Only then are
the entries split into three classes by size, each summed under a power of two of its
own, as in Blue's algorithm: no second pass over the tree in an ordinary step, and, over
mapped axes, one all-reduce of four numbers in any step.

References:
  Blue, "A portable Fortran program to find the Euclidean norm of a vector", ACM Trans.
  Math. Softw. 4 (1978).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class ScaledNorm(NamedTuple):
    """A norm that may exceed its dtype: `scaled_norm / scale`."""

    scale: jax.Array  # shape=(), a power of two
    scaled_norm: jax.Array  # shape=(), of the finite entries; NaN if an entry is NaN
    num_infinite: jax.Array  # shape=(), same dtype


class _Thresholds(NamedTuple):
    """Powers of two that keep squares, and sums of 2^30 of them, in range."""

    big: float  # entries above are big
    small: float  # entries below are small
    shrink: float  # big entries times this have squares in range
    grow: float  # small entries times this have squares in range
    sum_low: float  # a plain sum of squares in between is trusted
    sum_high: float


def _thresholds(dtype) -> _Thresholds:
    # In eighths and so on of the exponent range: 128 for float32, 1024 for float64.
    unit = jnp.finfo(dtype).maxexp // 128
    return _Thresholds(
        big=2.0 ** (48 * unit),
        small=2.0 ** (-48 * unit),
        shrink=2.0 ** (-80 * unit),
        grow=2.0 ** (90 * unit),
        sum_low=2.0 ** (-80 * unit),
        sum_high=2.0 ** (100 * unit),
    )


def accumulation_dtype(leaves: Sequence[jax.Array]) -> jnp.dtype:
    """The real dtype to sum in: the widest of the leaves, float32 at least."""
    dtype = jnp.dtype(jnp.float32)
    for leaf in leaves:
        dtype = jnp.promote_types(dtype, jnp.finfo(leaf.dtype).dtype)
    return dtype


def _real_parts(x: jax.Array, dtype) -> list[jax.Array]:
    parts = [x.real, x.imag] if jnp.iscomplexobj(x) else [x]
    return [part.astype(dtype) for part in parts]


def _careful_sums(parts: list[jax.Array], limits: _Thresholds) -> jax.Array:
    """Sums of squares by class of size, and the number of infinite entries."""
    dtype = parts[0].dtype

    def one(x):
        size = jnp.abs(x)
        is_infinite = jnp.isinf(x)
        is_big = (size > limits.big) & ~is_infinite
        is_small = size < limits.small
        is_middle = ~(is_big | is_small | is_infinite)  # NaN is here
        return jnp.stack(
            [
                jnp.sum(jnp.square(jnp.where(is_middle, x, 0.0))),
                jnp.sum(jnp.square(jnp.where(is_big, x, 0.0) * limits.shrink)),
                jnp.sum(jnp.square(jnp.where(is_small, x, 0.0) * limits.grow)),
                jnp.sum(is_infinite.astype(dtype)),
            ]
        )

    return sum((one(part) for part in parts[1:]), one(parts[0]))


def _sums(leaves: Sequence[jax.Array], dtype) -> jax.Array:
    """The four sums over some leaves, on this device."""
    limits = _thresholds(dtype)
    parts = [part for leaf in leaves for part in _real_parts(leaf, dtype)]
    plain = sum(jnp.sum(jnp.square(part)) for part in parts)
    zero = jnp.zeros_like(plain)
    is_trusted = (plain >= limits.sum_low) & (plain <= limits.sum_high)
    return jax.lax.cond(
        is_trusted,
        lambda: jnp.stack([plain, zero, zero, zero]),
        lambda: _careful_sums(parts, limits),
    )


def tree_norm(
    leaves: Sequence[jax.Array], axes: Sequence[tuple[str, ...]]
) -> ScaledNorm:
    """The norm over all leaves, each summed over the mapped axes it is sharded over.

    Args:
      leaves: real or complex floating arrays of any shape, at least one.
      axes: for each leaf, the names of the mapped axes that shard it; () if none.

    Returns:
      The norm in the dtype of `accumulation_dtype`, the same on every shard.
    """
    dtype = accumulation_dtype(leaves)
    sums = jnp.zeros(4, dtype)
    for group in sorted(set(axes)):
        members = [leaf for leaf, own in zip(leaves, axes, strict=True) if own == group]
        local = _sums(members, dtype)
        sums = sums + (jax.lax.psum(local, group) if group else local)
    middle, big, small, num_infinite = sums

    limits = _thresholds(dtype)
    has_big = big > 0.0
    has_middle = middle != 0.0  # true for NaN
    scale = jnp.where(
        has_big, limits.shrink, jnp.where(has_middle, 1.0, limits.grow)
    ).astype(dtype)  # fmt: skip
    square = jnp.where(
        has_big,
        big + middle * limits.shrink * limits.shrink,
        jnp.where(has_middle, middle + small / limits.grow / limits.grow, small),
    )
    # Two branches, so that the derivative of the root is finite at zero.
    is_zero = square == 0.0
    scaled_norm = jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, square)))
    return ScaledNorm(scale, scaled_norm, num_infinite)


def norm_value(norm: ScaledNorm) -> jax.Array:
    """The norm itself, float32, at most the largest finite value; NaN stays."""
    largest = jnp.finfo(jnp.float32).max
    value = jnp.minimum(norm.scaled_norm / norm.scale, largest)
    return jnp.where(norm.num_infinite > 0, largest, value).astype(jnp.float32)
