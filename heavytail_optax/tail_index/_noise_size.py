"""The size of a noise vector: of the whole tree, and of each leaf."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._keys import fold_in

_TINIEST = 1e-37  # the smallest size whose logarithm is taken
_LARGEST = float(jnp.finfo(jnp.float32).max)


class NoiseSizes(NamedTuple):
    """Sizes of m noise vectors; the first row is the whole tree, the others the leaves.

    Attributes:
      largest: the sizes, or the largest of them if a vector has several, padded with
        zeros. shape=(rows, m, s), dtype=float32.
      log_mean: mean of the logarithms of the sizes. shape=(rows, m), dtype=float32.
      is_finite: false if an entry is NaN or infinite; the sizes are then meaningless.
        shape=(rows, m), dtype=bool.
    """

    largest: jax.Array
    log_mean: jax.Array
    is_finite: jax.Array


def _in_float32(leaf: jax.Array) -> jax.Array:
    """The leaf in float32, clipped to its finite range; NaN stays NaN."""
    wide = leaf.astype(computation_dtype(leaf.dtype))
    return jnp.clip(wide, -_LARGEST, _LARGEST).astype(jnp.float32)


def _flat(leaf: jax.Array) -> jax.Array:
    """Shape (m, entries), float32."""
    return _in_float32(leaf).reshape(leaf.shape[0], -1)


def _unit(leaf: jax.Array) -> jax.Array:
    """The largest entry of each vector, shape (m, 1, ...), as a number to divide by."""
    axes = tuple(range(1, leaf.ndim))
    largest = jnp.max(jnp.abs(leaf), axis=axes, initial=0.0, keepdims=True)
    # The inverse of a larger unit would be denormal, which most devices round to zero.
    return jnp.clip(largest, 1e-37, 1e37)


def _norm(leaf: jax.Array) -> jax.Array:
    """Norms over all axes but the first, without overflow; at most the largest float."""
    wide = _in_float32(leaf)
    unit = _unit(wide)
    root = jnp.sqrt(jnp.sum((wide / unit) ** 2, axis=tuple(range(1, leaf.ndim))))
    return jnp.minimum(root * unit.reshape(root.shape), _LARGEST)


def norms(noise: Sequence[jax.Array]) -> jax.Array:
    """Of all leaves together, and of each. shape=(rows, m)."""
    leaves = [_norm(leaf) for leaf in noise]
    return jnp.stack([_norm(jnp.stack(leaves, axis=-1)), *leaves])


def _of_projections(noise: Sequence[jax.Array], key: jax.Array) -> jax.Array:
    """Absolute values along a unit vector of the tree, and of each leaf."""
    products, units, squares = [], [], []
    for number, leaf in enumerate(noise):
        leaf = _flat(leaf)
        direction = jax.random.normal(fold_in(key, number), leaf.shape[1:], jnp.float32)
        unit = _unit(leaf)
        products.append((leaf / unit) @ direction)
        units.append(unit[..., 0])
        squares.append(jnp.sum(direction**2))
    products, units, squares = (jnp.stack(x) for x in (products, units, squares))
    unit = jnp.max(units, axis=0, keepdims=True)
    total = jnp.sum(products * (units / unit), axis=0, keepdims=True)
    total_square = jnp.sum(squares, keepdims=True)
    values = jnp.concatenate([total, products])
    values = values / jnp.sqrt(
        jnp.maximum(jnp.concatenate([total_square, squares]), 1e-30)
    ).reshape(-1, 1)
    values = jnp.abs(values) * jnp.concatenate([unit, units])
    return jnp.minimum(values, _LARGEST)


def _of_coordinates(
    noise: Sequence[jax.Array], count: int
) -> tuple[jax.Array, jax.Array]:
    """The largest absolute values, and the means of their logarithms."""
    tops, sums, sizes = [], [], []
    for leaf in noise:
        absolute = jnp.abs(_flat(leaf))
        some = min(count, absolute.shape[1])
        top = jax.lax.top_k(absolute, some)[0]
        tops.append(jnp.pad(top, ((0, 0), (0, count - some))))
        sums.append(jnp.sum(jnp.log(jnp.maximum(absolute, _TINIEST)), axis=1))
        sizes.append(absolute.shape[1])
    every = jax.lax.top_k(jnp.concatenate(tops, axis=1), count)[0]
    total = sum(sums) / max(sum(sizes), 1)
    means = [x / max(size, 1) for x, size in zip(sums, sizes, strict=True)]
    return jnp.stack([every, *tops]), jnp.stack([total, *means])


@on_auto_axes
def noise_sizes(
    noise: Sequence[jax.Array], measure: str, count: int, key: jax.Array | None
) -> NoiseSizes:
    """The sizes of the noise vectors, or the largest if a vector has several.

    Args:
      noise: real floating leaves whose first axis counts the vectors.
      measure: "norm", "coordinates" or "projection".
      count: how many of the largest coordinates to return.
      key: a typed key, for "projection".
    """
    if not noise:
        nothing = jnp.zeros((1, 1), jnp.float32)
        return NoiseSizes(nothing[..., None], nothing, nothing == 0.0)
    finite = [
        jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim))) for leaf in noise
    ]
    finite = jnp.stack([jnp.all(jnp.stack(finite), axis=0), *finite])
    if measure == "coordinates":
        return NoiseSizes(*_of_coordinates(noise, count), finite)
    values = norms(noise) if measure == "norm" else _of_projections(noise, key)
    logs = jnp.log(jnp.maximum(values, _TINIEST))
    return NoiseSizes(values[..., None], logs, finite)
