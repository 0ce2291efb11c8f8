"""The Hessian as an operator on pytrees, and Lanczos' algorithm for it.

Vectors are pytrees like the parameters, never one flat array. So each leaf stays
sharded like the parameters, and only inner products cross devices.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._dtypes import accumulation_dtype
from heavytail_optax._sharding import spec_of, zeros_like
from heavytail_optax._typing import Params, PyTree
from heavytail_optax.flatness._arguments import Loss
from heavytail_optax.flatness._perturbation import in_float, wide_loss

_ROUNDINGS = 4.0  # tests found smaller errors of measured residuals


def hessian_operator(
    loss_fn: Loss, params: Params, args: tuple[PyTree, ...]
) -> tuple[Callable[[PyTree], PyTree], PyTree]:
    """The Hessian at the parameters, on pytrees like them.

    Returns:
      The function from a vector to its product with the Hessian, and the parameters as
      such a vector. Vectors are float32 or wider; the loss gets the parameters in their
      own dtypes.
    """
    origin = in_float(params)
    gradient = jax.grad(wide_loss(loss_fn, params))
    # Whatever depends only on the parameters is computed once for all vectors.
    _, product = jax.linearize(lambda point: gradient(point, *args), origin)
    return product, origin


def inner(first: PyTree, second: PyTree) -> jax.Array:
    """The inner product of two vectors, shape=()."""
    leaves = jax.tree.leaves(first)
    dtype = accumulation_dtype(leaves)
    pairs = zip(leaves, jax.tree.leaves(second), strict=True)
    return sum((jnp.sum(x * y, dtype=dtype) for x, y in pairs), jnp.zeros((), dtype))


def _coordinates(basis: PyTree, vector: PyTree) -> jax.Array:
    """Inner products of a vector with each row of the basis, shape=(k,)."""
    leaves = jax.tree.leaves(basis)
    dtype = accumulation_dtype(leaves)

    def of_leaf(rows: jax.Array, x: jax.Array) -> jax.Array:
        axes = (tuple(range(1, rows.ndim)), tuple(range(x.ndim)))
        return jax.lax.dot_general(
            rows,
            x,
            (axes, ((), ())),
            precision="highest",
            out_sharding=spec_of(x, None),
        ).astype(dtype)

    return sum(map(of_leaf, leaves, jax.tree.leaves(vector)), jnp.zeros((), dtype))


def combine(coordinates: jax.Array, basis: PyTree) -> PyTree:
    """Sums of the rows of the basis, shape=(..., k) to leaves of shape (..., *shape)."""
    return jax.tree.map(
        lambda rows: jnp.tensordot(
            coordinates.astype(rows.dtype), rows, axes=1, precision="highest"
        ),
        basis,
    )


class Krylov(NamedTuple):
    """The projection of a symmetric operator on a Krylov space of dimension k.

    Attributes:
      values: Ritz values, ascending; NaN beyond a smaller space. shape=(k,).
      coefficients: the Ritz vectors in the basis, one per column. shape=(k, k).
      basis: an orthonormal basis, one vector per row; zero beyond a smaller space. A
        pytree with a first axis of length k.
    """

    values: jax.Array
    coefficients: jax.Array
    basis: PyTree


def _lanczos(
    product: Callable[[PyTree], PyTree], start: PyTree, num_products: int
) -> tuple[PyTree, jax.Array, jax.Array]:
    """An orthonormal basis, the diagonal and the subdiagonal."""

    def step(carry: tuple[PyTree, PyTree], index: jax.Array):
        basis, rest = carry
        size = jnp.sqrt(inner(rest, rest))
        vector = jax.tree.map(lambda x: x / size.astype(x.dtype), rest)
        basis = jax.tree.map(
            lambda rows, x: jax.lax.dynamic_update_index_in_dim(rows, x, index, 0),
            basis,
            vector,
        )
        moved = product(vector)
        coordinates = _coordinates(basis, moved)
        # Twice is enough. After once, rounding leaves a remainder not orthogonal to the
        # basis.
        rest = jax.tree.map(jnp.subtract, moved, combine(coordinates, basis))
        again = _coordinates(basis, rest)
        rest = jax.tree.map(jnp.subtract, rest, combine(again, basis))
        return (basis, rest), (coordinates[index], jnp.sqrt(inner(rest, rest)))

    empty = jax.tree.map(lambda x: zeros_like(x, x.dtype, num_products), start)
    (basis, _), (diagonal, rests) = jax.lax.scan(
        step, (empty, start), jnp.arange(num_products)
    )
    return basis, diagonal, rests[:-1]


def krylov(
    product: Callable[[PyTree], PyTree],
    start: PyTree,
    num_matvecs: int,
) -> Krylov:
    """Lanczos' algorithm with full reorthogonalisation.

    Args:
      product: a symmetric operator on pytrees.
      start: such a pytree.
      num_matvecs: k, at most the total number of entries.
    """
    basis, diagonal, below = _lanczos(product, start, num_matvecs)
    size = jax.lax.cummax(jnp.maximum(jnp.abs(diagonal), jnp.append(below, 0.0)))
    # If almost nothing is left, the space is exhausted, and what follows is noise or
    # 0/0. Only the rows before are valid.
    has_next = below > 16.0 * jnp.finfo(below.dtype).eps * size[:-1]
    is_in = jnp.cumprod(jnp.append(True, has_next) & jnp.isfinite(diagonal)).astype(
        bool
    )
    # Outside, any value that differs from those inside: these are at most three `size`.
    outside = 4.0 * jnp.max(jnp.where(is_in, size, 0.0)) + 1.0
    diagonal = jnp.where(is_in, diagonal, outside)
    below = jnp.where(is_in[1:], below, 0.0)
    basis = jax.tree.map(
        lambda rows: jnp.where(
            jnp.expand_dims(is_in, tuple(range(1, rows.ndim))), rows, 0.0
        ),
        basis,
    )
    matrix = jnp.diag(diagonal) + jnp.diag(below, 1) + jnp.diag(below, -1)
    values, coefficients = jnp.linalg.eigh(matrix)
    # A Ritz vector is outside the space if it has no component in it.
    share = jnp.sum(jnp.where(is_in[:, None], coefficients**2, 0.0), axis=0)
    values = jnp.where(share > 0.5, values, jnp.nan)
    return Krylov(values, coefficients, basis)


def residual_norms(
    product: Callable[[PyTree], PyTree],
    values: jax.Array,
    vectors: PyTree,
    norm: jax.Array,
) -> jax.Array:
    """Norms of `A x - value x`, each measured with one more product. shape=(k,).

    The norm that Lanczos' algorithm knows, that of its last remainder, leaves rounding
    out. It is zero if the Krylov space is exhausted.

    Args:
      product: the operator A.
      values: shape=(k,).
      vectors: a pytree with a first axis of length k.
      norm: that of the operator; the error of the measurement is a few of its
        roundings, and is added.
    """

    def of_pair(pair: tuple[jax.Array, PyTree]) -> jax.Array:
        value, vector = pair
        rest = jax.tree.map(
            lambda moved, x: moved - value.astype(x.dtype) * x, product(vector), vector
        )
        return jnp.sqrt(inner(rest, rest))

    measured = jax.lax.map(of_pair, (values, vectors))
    return measured + _ROUNDINGS * jnp.finfo(measured.dtype).eps * norm
