"""The size of a noise vector: of the whole tree, and of each leaf."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

_TINIEST = 1e-37  # of a size whose logarithm is taken


class NoiseSizes(NamedTuple):
    """Sizes of m noise vectors; the first row is the whole tree, the others the leaves.

    Attributes:
      largest: the sizes, or the largest of them where a vector has several, padded with
        zeros. shape=(rows, m, s), dtype=float32.
      log_mean: mean of the logarithms of the sizes. shape=(rows, m), dtype=float32.
      is_known: false where there was a NaN. shape=(rows, m), dtype=bool.
    """

    largest: jax.Array
    log_mean: jax.Array
    is_known: jax.Array


def _flat(leaf: jax.Array) -> jax.Array:
    """Shape (m, entries), float32, within its finite range; NaN stays."""
    largest = float(jnp.finfo(jnp.float32).max)
    wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
    wide = jnp.clip(wide, -largest, largest).astype(jnp.float32)
    # Where shardings are explicit, neither a reshape, nor `top_k`, nor a product takes a
    # sharded axis.
    if any(jax.typeof(wide).sharding.spec):
        wide = jax.sharding.reshard(wide, jax.P())
    return wide.reshape(leaf.shape[0], -1)


def _norm(leaf: jax.Array) -> jax.Array:
    """Norms over all axes but the first, without overflow; at most the largest float."""
    axes = tuple(range(1, leaf.ndim))
    limit = float(jnp.finfo(jnp.float32).max)
    wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
    wide = jnp.clip(wide, -limit, limit).astype(jnp.float32)
    largest = jnp.max(jnp.abs(wide), axis=axes, initial=0.0, keepdims=True)
    # The inverse of a unit beyond would be denormal, which most devices take for zero.
    unit = jnp.clip(largest, 1e-37, 1e37)
    root = jnp.sqrt(jnp.sum((wide / unit) ** 2, axis=axes))
    return jnp.minimum(root * unit.reshape(root.shape), limit)


def _of_norms(noise: Sequence[jax.Array]) -> jax.Array:
    leaves = [_norm(leaf) for leaf in noise]
    return jnp.stack([_norm(jnp.stack(leaves, axis=-1)), *leaves])


def _of_projections(noise: Sequence[jax.Array], key: jax.Array) -> jax.Array:
    """Absolute values along a unit vector of the tree, and of each leaf."""
    products, squares = [], []
    for number, leaf in enumerate(noise):
        flat = _flat(leaf)
        direction = jax.random.normal(
            jax.random.fold_in(key, number), flat.shape[1:], jnp.float32
        )
        products.append(flat @ direction)
        squares.append(jnp.sum(direction**2))
    products, squares = jnp.stack(products), jnp.stack(squares)
    total = jnp.sum(products, axis=0) / jnp.sqrt(jnp.maximum(jnp.sum(squares), 1e-30))
    leaves = products / jnp.sqrt(jnp.maximum(squares, 1e-30))[:, None]
    values = jnp.concatenate([total[None], leaves])
    # A sum of the largest floats is infinite, and infinity less infinity a NaN.
    return jnp.minimum(jnp.abs(values), float(jnp.finfo(jnp.float32).max))


def _of_coordinates(noise: Sequence[jax.Array], count: int) -> NoiseSizes:
    tops, sums, sizes, known = [], [], [], []
    for leaf in noise:
        flat = jnp.abs(_flat(leaf))
        some = min(count, flat.shape[1])
        top = jax.lax.top_k(flat, some)[0]
        tops.append(jnp.pad(top, ((0, 0), (0, count - some))))
        sums.append(jnp.sum(jnp.log(jnp.maximum(flat, _TINIEST)), axis=1))
        sizes.append(flat.shape[1])
        known.append(~jnp.any(jnp.isnan(flat), axis=1))
    every = jax.lax.top_k(jnp.concatenate(tops, axis=1), count)[0]
    total = sum(sums) / max(sum(sizes), 1)
    means = [x / max(size, 1) for x, size in zip(sums, sizes, strict=True)]
    return NoiseSizes(
        jnp.stack([every, *tops]),
        jnp.stack([total, *means]),
        jnp.stack([jnp.all(jnp.stack(known), axis=0), *known]),
    )


def noise_sizes(
    noise: Sequence[jax.Array], measure: str, count: int, key: jax.Array | None
) -> NoiseSizes:
    """The sizes of the noise vectors, and the largest where a vector has several.

    Args:
      noise: leaves with an axis of vectors in front, real and floating.
      measure: "norm", "coordinates" or "projection".
      count: how many of the largest coordinates are wanted.
      key: typed, for "projection".
    """
    if not noise:
        nothing = jnp.zeros((1, 1), jnp.float32)
        return NoiseSizes(nothing[..., None], nothing, nothing == 0.0)
    if measure == "coordinates":
        return _of_coordinates(noise, count)
    values = _of_norms(noise) if measure == "norm" else _of_projections(noise, key)
    is_known = ~jnp.isnan(values)
    logs = jnp.log(jnp.maximum(values, _TINIEST))
    return NoiseSizes(values[..., None], logs, is_known)
