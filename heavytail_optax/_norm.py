"""Euclidean norms of the parts of a pytree, without overflow, in one reduction.

The plain sum of squares is right unless it leaves the range of the dtype. Only then the
entries are split into three classes by size, as in Blue's algorithm; each class is
scaled by its own power of two and summed. So an ordinary step has no second pass over
the tree. Over mapped axes, every step has one all-reduce of four numbers.

References:
  Blue, "A portable Fortran program to find the Euclidean norm of a vector", ACM Trans.
  Math. Softw. 4 (1978).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._dtypes import accumulation_dtype

# An array of up to this many elements is cheaper to copy than to sum alone, and to pass to
# a conditional. From 5,000 elements on, copies take up to three times as long.
_SMALL = 2**12
_FEW = 8


class ScaledNorm(NamedTuple):
    """A norm that may exceed its dtype, `scaled_norm / scale`, or one for each group.

    The fields are of one shape and dtype.
    """

    scale: jax.Array  # a power of two
    scaled_norm: jax.Array  # of the finite entries; NaN if an entry is NaN
    num_infinite: jax.Array


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


class _Entries(NamedTuple):
    """The entries of all groups, in arrays that are few and of a useful size."""

    rows: list[jax.Array]  # matrices; each row has small entries of one group
    place: np.ndarray  # for each group its row, counted over all matrices, or beyond
    rest: list[list[jax.Array]]  # for each group, arrays of any shape


def _sum_each(entries: _Entries, of_entries: Callable[[jax.Array], jax.Array], dtype):
    """The sum of a function over each group: shape=(num_groups,)."""
    zero = jnp.zeros((), dtype)
    sums = [jnp.sum(of_entries(matrix), axis=1) for matrix in entries.rows]
    others = [sum(map(jnp.sum, map(of_entries, xs)), zero) for xs in entries.rest]
    if not sums:
        return jnp.stack(others)
    of_rows = jnp.concatenate([*sums, jnp.zeros(1, dtype)])[entries.place]
    return of_rows + jnp.stack(others) if any(entries.rest) else of_rows


def _careful_sums(entries: _Entries, limits: _Thresholds, dtype) -> jax.Array:
    """For each group, the squares' sum of each size class, and how many are infinite.

    A scan over the classes: XLA's CPU backend leaves the sums to a library, so it
    stores the scaled entries. With a scan it stores those of only one class at a time.
    """
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

        def of_one(x):
            scaled = x * factor
            size = jnp.abs(scaled)
            is_outside = (size < low) | (size >= high)
            return jnp.square(jnp.where(is_outside, 0.0, scaled))

        return None, _sum_each(entries, of_one, dtype)

    _, totals = jax.lax.scan(sum_of_class, None, classes)
    num_infinite = _sum_each(entries, lambda x: jnp.isinf(x).astype(dtype), dtype)
    return jnp.concatenate([totals, jnp.expand_dims(num_infinite, 0)])


def _packed(parts: list[list[jax.Array]]) -> _Entries:
    """The small arrays of each group joined into one, and these put side by side.

    XLA's CPU backend takes most of a microsecond for each operand of a conditional, and
    several for each sum. With several devices nothing is joined, because that would
    gather sharded arrays. Under `jit`, this function cannot see which are sharded.
    """
    small = [[x for x in own if x.size <= _SMALL] for own in parts]
    if jax.device_count() > 1 or sum(map(len, small)) < _FEW:
        return _Entries([], np.zeros(len(parts), np.int32), parts)
    rest = [[x for x in own if x.size > _SMALL] for own in parts]
    # Groups whose lengths have the same number of bits share a matrix. Zeros fill the
    # shorter rows.
    of_size: dict[int, list[int]] = {}
    joined = {
        group: jnp.concatenate([x.reshape(-1) for x in own])
        for group, own in enumerate(small)
        if own
    }
    for group, entries in joined.items():
        of_size.setdefault(entries.size.bit_length(), []).append(group)
    rows, order = [], []
    # Without the barriers, XLA would join them once for each use.
    for groups in of_size.values():
        if len(groups) == 1:
            rest[groups[0]].insert(0, jax.lax.optimization_barrier(joined[groups[0]]))
            continue
        length = max(joined[group].size for group in groups)
        filled = [
            jnp.pad(joined[group], (0, length - joined[group].size)) for group in groups
        ]
        rows.append(jax.lax.optimization_barrier(jnp.stack(filled)))
        order += groups
    place = np.full(len(parts), len(order), np.int32)
    place[order] = np.arange(len(order))
    return _Entries(rows, place, rest)


def _sums(parts: list[list[jax.Array]], dtype) -> jax.Array:
    """The four sums of each group, on this device: shape=(4, num_groups)."""
    limits = _thresholds(dtype)
    entries = _packed(parts)
    # Not `jnp.square`: its derivative 2x is infinite for the largest finite x.
    plain = _sum_each(entries, lambda x: x * x, dtype)
    zeros = jnp.zeros_like(plain)
    is_trusted = (plain >= limits.sum_low) & (plain <= limits.sum_high)
    if len(parts) > 1:
        # A group of zeros, as a frozen layer has, must not make every step slow. The
        # price: a group whose entries are all below 1e-23 counts as zero.
        is_trusted |= plain == 0.0
    return jax.lax.cond(
        jnp.all(is_trusted),
        lambda: jnp.stack([plain, zeros, zeros, zeros]),
        lambda: _careful_sums(entries, limits, dtype),
    )


def tree_norm(
    leaves: Sequence[jax.Array], axes: Sequence[tuple[str, ...]]
) -> ScaledNorm:
    """The norm over all leaves together, shape=(); see `group_norms`."""
    norms = group_norms(leaves, axes, [0] * len(leaves), 1)
    return ScaledNorm(*(field[0] for field in norms))


def group_norms(
    leaves: Sequence[jax.Array],
    axes: Sequence[tuple[str, ...]],
    groups: Sequence[int],
    num_groups: int,
) -> ScaledNorm:
    """The norm of each group of leaves. Each is summed over the axes that shard it.

    Args:
      leaves: real or complex floating arrays of any shape, at least one.
      axes: for each leaf, the names of the mapped axes that shard it; () if none.
      groups: for each leaf, its group, from 0 on.
      num_groups: number of groups. One without leaves has norm 0.

    Returns:
      Norms of shape (num_groups,) in the dtype of `accumulation_dtype`, the same on
      every shard.
    """
    dtype = accumulation_dtype(leaves)
    sums = jnp.zeros((4, num_groups), dtype)
    for names in sorted(set(axes)):
        parts: list[list[jax.Array]] = [[] for _ in range(num_groups)]
        for leaf, own, group in zip(leaves, axes, groups, strict=True):
            if own == names:
                parts[group] += _real_parts(leaf, dtype)
        local = _sums(parts, dtype)
        sums = sums + (jax.lax.psum(local, names) if names else local)
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
