"""The Euclidean norm of a pytree, without overflow or underflow, in one reduction.

The plain sum of squares is right unless it leaves the range of the dtype. Only then the
entries are split into three classes by size, as in Blue's algorithm; each class is
scaled by its own power of two and summed. So an ordinary step has no second pass over
the tree. Over mapped axes, every step has one all-reduce of four numbers.

References:
  Blue, "A portable Fortran program to find the Euclidean norm of a vector", ACM Trans.
  Math. Softw. 4 (1978).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._dtypes import accumulation_dtype

# An array of up to this many elements is cheaper to copy than to pass to a conditional.
_SMALL = 2**14
_FEW = 8


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
    # Fractions of the exponent range, which is 128 for float32 and 1024 for float64.
    unit = jnp.finfo(dtype).maxexp // 128
    return _Thresholds(
        big=2.0 ** (48 * unit),
        small=2.0 ** (-48 * unit),
        shrink=2.0 ** (-80 * unit),
        grow=2.0 ** (90 * unit),
        sum_low=2.0 ** (-80 * unit),
        sum_high=2.0 ** (100 * unit),
    )


def _real_parts(x: jax.Array, dtype) -> list[jax.Array]:
    parts = [x.real, x.imag] if jnp.iscomplexobj(x) else [x]
    return [part.astype(dtype) for part in parts]


def _careful_sums(parts: list[jax.Array], limits: _Thresholds) -> jax.Array:
    """The sum of squares of each size class, and the number of infinite entries.

    A scan over the classes: XLA's CPU backend leaves the sums to a library, so it
    stores the scaled entries. With a scan it stores those of only one class at a time.
    """
    dtype = parts[0].dtype
    # Middle, big and small. A NaN fails both comparisons, so it is in every class. The
    # bounds are those of the scaled entries: unscaled absolute values would be computed
    # before the scan, and stored too.
    classes = jnp.asarray(
        [
            [limits.small, limits.big, 1.0],
            [limits.big * limits.shrink, jnp.inf, limits.shrink],
            [0.0, limits.small * limits.grow, limits.grow],
        ],
        dtype,
    )

    def sum_of_class(_, low_high_factor):
        low, high, factor = low_high_factor
        total = jnp.zeros((), dtype)
        for x in parts:
            scaled = x * factor
            size = jnp.abs(scaled)
            is_outside = (size < low) | (size >= high)
            total += jnp.sum(jnp.square(jnp.where(is_outside, 0.0, scaled)))
        return None, total

    _, totals = jax.lax.scan(sum_of_class, None, classes)
    num_infinite = sum(jnp.sum(jnp.isinf(x), dtype=dtype) for x in parts)
    return jnp.concatenate([totals, jnp.expand_dims(num_infinite, 0)])


def _joined(parts: list[jax.Array]) -> list[jax.Array]:
    """The small arrays joined into one; the large ones unchanged.

    XLA's CPU backend takes most of a microsecond for each operand of a conditional.
    With several devices nothing is joined, because that would gather sharded arrays.
    Under `jit`, this function cannot see which arrays are sharded.
    """
    if jax.device_count() > 1:
        return parts
    small = [part for part in parts if part.size <= _SMALL]
    large = [part for part in parts if part.size > _SMALL]
    if len(small) < _FEW:
        return parts
    # Without the barrier, XLA would join them once for each use.
    joined = jnp.concatenate([part.reshape(-1) for part in small])
    return [jax.lax.optimization_barrier(joined), *large]


def _sums(leaves: Sequence[jax.Array], dtype) -> jax.Array:
    """The four sums over the given leaves, on this device."""
    limits = _thresholds(dtype)
    parts = _joined([part for leaf in leaves for part in _real_parts(leaf, dtype)])
    # Not `jnp.square`: its derivative 2x is infinite for the largest finite x.
    plain = sum(jnp.sum(part * part) for part in parts)
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
    """The norm over all leaves. Each is summed over the mapped axes that shard it.

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
    regrow = jnp.where(
        has_big, 0.0, jnp.where(has_middle, 1.0 / limits.grow, 1.0)
    ).astype(dtype)  # fmt: skip
    # Factors that XLA cannot know: it would merge two constants, and the product of
    # these underflows.
    square = big + middle * scale * scale + small * regrow * regrow
    # Two branches keep the derivative of the square root finite at zero.
    is_zero = square == 0.0
    scaled_norm = jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, square)))
    return ScaledNorm(scale, scaled_norm, num_infinite)


def norm_value(norm: ScaledNorm) -> jax.Array:
    """The norm in float32, at most the largest finite value; NaN stays NaN."""
    largest = jnp.finfo(jnp.float32).max
    value = jnp.minimum(norm.scaled_norm / norm.scale, largest)
    return jnp.where(norm.num_infinite > 0, largest, value).astype(jnp.float32)
