"""The Hessian as an operator, and what Lanczos' algorithm tells of it.

The algorithms are those of matfree, of the extra `flatness`; it is imported when first
needed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp

from heavytail_optax.flatness._arguments import Loss
from heavytail_optax.flatness._perturbation import in_float


def import_matfree(function: str) -> tuple[Any, Any]:
    """matfree's modules `decomp` and `stochtrace`.

    Raises:
      ImportError: if it is not installed, with the command that installs it.
    """
    try:
        from matfree import decomp, stochtrace
    except ImportError as error:
        raise ImportError(
            f"`{function}` needs matfree: pip install 'heavytail-optax[flatness]'"
        ) from error
    return decomp, stochtrace


def hessian_operator(
    loss_fn: Loss, params: Any, args: tuple[Any, ...]
) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """The Hessian at the parameters, on flat vectors.

    Returns:
      From a vector to its product with the Hessian, both of shape (n,); and the
      parameters as such a vector. Vectors are float32 or wider; the loss sees the
      parameters in their own dtypes.
    """
    dtypes = jax.tree.map(lambda x: x.dtype, params)
    origin, unravel = jax.flatten_util.ravel_pytree(in_float(params))

    def flat_loss(vector: jax.Array) -> jax.Array:
        own = jax.tree.map(lambda x, dtype: x.astype(dtype), unravel(vector), dtypes)
        return loss_fn(own, *args).astype(origin.dtype)

    # What depends on the parameters only is computed once, and kept for all vectors.
    _, matvec = jax.linearize(jax.grad(flat_loss), origin)
    return matvec, origin


class Krylov(NamedTuple):
    """The projection of a symmetric operator on a Krylov space of dimension k.

    Attributes:
      values: Ritz values, ascending; NaN where the space is smaller. shape=(k,).
      coefficients: of the Ritz vectors, one a column, in the basis. shape=(k, k).
      basis: orthonormal, one vector a row; zero where the space is smaller.
        shape=(k, n).
      residuals: norms of `A x - value x`, for each Ritz pair. shape=(k,).
    """

    values: jax.Array
    coefficients: jax.Array
    basis: jax.Array
    residuals: jax.Array


def krylov(
    decomp: Any,
    matvec: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    num_matvecs: int,
) -> Krylov:
    """Lanczos' algorithm with full reorthogonalisation.

    Args:
      decomp: matfree's module of that name.
      matvec: a symmetric operator on vectors of shape (n,).
      start: shape=(n,).
      num_matvecs: k, at most n.
    """
    # Lanczos' algorithm with full reorthogonalisation is Arnoldi's. matfree's own
    # `tridiag_sym` averages the two off-diagonals, which hides an exhausted space.
    decompose = decomp.hessenberg(num_matvecs, reortho="full", custom_vjp=False)
    basis, projection, rest, _ = decompose(matvec, start)
    diagonal, below = jnp.diagonal(projection), jnp.diagonal(projection, -1)
    size = jax.lax.cummax(
        jnp.maximum(jnp.abs(diagonal), jnp.abs(jnp.append(below, 0.0)))
    )
    # Where next to nothing is left, the space is exhausted, and what follows is noise,
    # or 0/0: only what came before stands.
    has_next = below > 16.0 * jnp.finfo(below.dtype).eps * size[:-1]
    is_in = jnp.cumprod(jnp.append(True, has_next) & jnp.isfinite(diagonal)).astype(
        bool
    )
    # Outside, any value apart from those inside, which are at most three times `size`.
    outside = 4.0 * jnp.max(jnp.where(is_in, size, 0.0)) + 1.0
    diagonal = jnp.where(is_in, diagonal, outside)
    below = jnp.where(is_in[1:], below, 0.0)
    basis = jnp.where(is_in[:, None], basis, 0.0)
    matrix = jnp.diag(diagonal) + jnp.diag(below, 1) + jnp.diag(below, -1)
    values, coefficients = jnp.linalg.eigh(matrix)
    # A Ritz vector outside the space is one that has no part in it.
    share = jnp.sum(jnp.where(is_in[:, None], coefficients**2, 0.0), axis=0)
    values = jnp.where(share > 0.5, values, jnp.nan)
    length = jnp.where(jnp.all(is_in), jnp.linalg.norm(rest), 0.0)
    residuals = length * jnp.abs(coefficients[-1])
    return Krylov(values, coefficients, basis, residuals)
