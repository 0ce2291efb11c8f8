"""Extreme eigenvalues of the Hessian, and its trace."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._keys import check_key, fold_in, tagged_key
from heavytail_optax._result_text import (
    is_one_number,
    short_repr,
    with_error,
    zero_hessian,
)
from heavytail_optax._typing import Key, Params, PyTree
from heavytail_optax._validation import check_choice, check_count, value_error
from heavytail_optax.flatness._arguments import (
    Loss,
    check_args,
    check_finite,
    check_loss,
    check_params,
)
from heavytail_optax.flatness._lanczos import (
    combine,
    hessian_operator,
    inner,
    krylov,
    residual_norms,
)
from heavytail_optax.flatness._loss_changes import loss_at, mean_and_standard_error
from heavytail_optax.flatness._perturbation import normals, signs

_EIGENVALUES = "hessian_eigenvalues"
_TRACE = "hessian_trace"

_MOST_SHOWN = 6  # eigenvalues that are printed


class HessianEigenvalues(NamedTuple):
    """Result of `hessian_eigenvalues`, in at least float32.

    Attributes:
      values: eigenvalues, the most extreme first. shape=(k,).
      vectors: eigenvectors of norm one: a pytree like the parameters, with a first axis
        of length k.
      residuals: norms of `H v - value v`, measured, with the rounding error of the
        measurement added. There is an eigenvalue within that distance of each value.
        shape=(k,).
    """

    values: jax.Array
    vectors: PyTree
    residuals: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        if self.values.ndim != 1 or not is_one_number(self.values[0]):
            return repr(self)
        # The others are beyond the space of the search: NaN.
        is_found = ~jnp.isnan(self.values)
        values, residuals = self.values[is_found], self.residuals[is_found]
        pairs = list(zip(values, residuals, strict=True))
        shown = [f"{value:.4g} within {error:.2g}" for value, error in pairs]
        if len(shown) > _MOST_SHOWN:
            shown[_MOST_SHOWN - 1 : -1] = [f"{len(shown) - _MOST_SHOWN} more"]
        found = f"eigenvalue{'s' * (len(pairs) > 1)} of the Hessian: {', '.join(shown)}"
        if len(pairs) < self.values.size:
            found += f" ({len(pairs)} of {self.values.size} found)"
        is_zero = bool(pairs) and not jnp.any(values) and not jnp.any(residuals)
        return found + zero_hessian("every product with it") * is_zero


class HessianTrace(NamedTuple):
    """Result of `hessian_trace`.

    Attributes:
      mean: the mean over the samples. shape=(), dtype: at least float32.
      standard_error: that of the mean; NaN for a single sample. shape=(), same dtype.
    """

    mean: jax.Array
    standard_error: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.mean):
            return repr(self)
        found = f"trace of the Hessian {with_error(self.mean, self.standard_error)}"
        is_zero = bool(self.mean == 0.0) and bool(self.standard_error == 0.0)
        return found + zero_hessian("every sample of it") * is_zero


@functools.partial(
    jax.jit, static_argnames=("loss_fn", "num_matvecs", "num_eigenvalues", "which")
)
def _eigenpairs(
    loss_fn: Loss,
    params: Params,
    args: tuple[PyTree, ...],
    key: jax.Array,
    *,
    num_matvecs: int,
    num_eigenvalues: int,
    which: str,
) -> HessianEigenvalues:
    product, origin = hessian_operator(loss_fn, params, args)
    space = krylov(product, normals(key, origin), num_matvecs)
    rank = {"largest": -space.values, "smallest": space.values}
    rank["magnitude"] = -jnp.abs(space.values)
    # Values that the space does not have are NaN, which is sorted last.
    chosen = jnp.argsort(rank[which])[:num_eigenvalues]
    values = space.values[chosen]
    vectors = combine(space.coefficients[:, chosen].T, space.basis)
    norm = jnp.nanmax(jnp.abs(space.values))
    residuals = residual_norms(product, values, vectors, norm)
    return HessianEigenvalues(values, vectors, residuals)


def hessian_eigenvalues(
    loss_fn: Loss,
    params: Params,
    *,
    key: Key,
    args: tuple[PyTree, ...] = (),
    num_eigenvalues: int = 1,
    which: Literal["largest", "smallest", "magnitude"] = "largest",
    num_matvecs: int = 50,
) -> HessianEigenvalues:
    r"""Extreme eigenvalues and eigenvectors of the Hessian.

    .. math:: H v_i = \lambda_i v_i, \qquad H = \nabla^2 L(\theta),

    computed by Lanczos' algorithm from a random vector, with full reorthogonalisation.
    Each value comes with the norm of its residual, which bounds the distance to the
    nearest eigenvalue. If that is too large, raise `num_matvecs`. It is at least four
    roundings of the largest value, 5e-7 of it in float32. H is the Hessian of the loss
    as it is computed: the bound does not include the rounding within the loss. A
    repeated eigenvalue is found once. For the Gauss-Newton matrix instead of the
    Hessian, use `gauss_newton_loss`. For data that do not fit at once, use
    `mean_over_batches`.

    Cost: `num_matvecs + num_eigenvalues` Hessian-vector products, each about two
    gradients. The memory is that of as many vectors of the size of the parameters,
    sharded like them.

    Args:
      loss_fn: L, called as `loss_fn(params, *args)`, that returns one floating number
        and is twice differentiable.
      params: theta, a pytree of floating arrays.
      key: key of the starting vector: an integer seed, a typed key or a legacy key.
      args: the data, and any other arguments of the loss after the parameters.
      num_eigenvalues: k, at most the number of parameters and `num_matvecs`.
      which: `"largest"`, `"smallest"` (the most negative), or `"magnitude"`: the
        largest in absolute value.
      num_matvecs: dimension of the Krylov space, but at most the number of parameters.

    Returns:
      A `HessianEigenvalues`. Values beyond those of an exhausted Krylov space are NaN,
      and so are their residuals.

    Raises:
      TypeError: if an argument has the wrong type, a leaf of `params` is not floating,
        or the loss not a floating number.
      ValueError: if `params` or an array of `args` is empty, the loss is not a scalar
        or not finite at `params`, a count is out of range, or `which` is unknown.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> curvature = jnp.array([1.0, 2.0, -5.0])
      >>> values, vectors, residuals = hto.flatness.hessian_eigenvalues(
      ...     lambda w, h: 0.5 * jnp.sum(h * w**2), jnp.ones(3), key=1, args=(curvature,)
      ... )
      >>> print(values, jnp.abs(vectors).round(3))
      [2.] [[0. 1. 0.]]

    References:
      Golub and Van Loan, "Matrix computations", 4th ed. (2013), section 10.3, for
      Lanczos' algorithm with complete reorthogonalisation.
    """
    name = _EIGENVALUES
    params = check_params(name, params)
    check_key(name, key)
    args = check_args(name, args)
    num_eigenvalues = check_count(name, "num_eigenvalues", num_eigenvalues)
    check_choice(name, "which", which, ("largest", "smallest", "magnitude"))
    num_matvecs = check_count(name, "num_matvecs", num_matvecs)
    num_matvecs = min(num_matvecs, sum(x.size for x in jax.tree.leaves(params)))
    if num_eigenvalues > num_matvecs:
        accepted = f"at most {num_matvecs}, the dimension of the Krylov space"
        raise value_error(name, "num_eigenvalues", accepted, num_eigenvalues)
    loss_fn = check_loss(name, loss_fn, params, args)
    check_finite(name, loss_at(loss_fn, params, args))
    return _eigenpairs(
        loss_fn,
        params,
        args,
        tagged_key(key, name),
        num_matvecs=num_matvecs,
        num_eigenvalues=num_eigenvalues,
        which=which,
    )


@functools.partial(jax.jit, static_argnames="loss_fn")
def quadratic_forms(
    loss_fn: Loss,
    params: Params,
    args: tuple[PyTree, ...],
    key: jax.Array,
    samples: jax.Array,
) -> jax.Array:
    """`v H v` for the vectors of random signs with these numbers, shape=(n,)."""
    product, origin = hessian_operator(loss_fn, params, args)

    def form(index: jax.Array) -> jax.Array:
        vector = signs(fold_in(key, index), origin)
        return inner(vector, product(vector))

    return jax.lax.map(form, samples)


def hessian_trace(
    loss_fn: Loss,
    params: Params,
    *,
    key: Key,
    args: tuple[PyTree, ...] = (),
    num_samples: int = 100,
) -> HessianTrace:
    r"""Trace of the Hessian, by Hutchinson's estimator.

    .. math::
      \operatorname{tr} H = \mathrm{E}\, v^\top H v, \qquad
      v_i = \pm 1 \text{ with equal probabilities},

    with the standard error of the mean over samples. The variance of one sample is
    twice the sum of squares of the off-diagonal entries of H. For small noise, the
    signed `expected_sharpness` is half of the trace times the variance of the noise.

    Cost: `num_samples` Hessian-vector products, one after another. Each costs about two
    gradients.

    Args:
      loss_fn: L, called as `loss_fn(params, *args)`, that returns one floating number
        and is twice differentiable.
      params: theta, a pytree of floating arrays.
      key: an integer seed, a typed key or a legacy key.
      args: the data, and any other arguments of the loss after the parameters.
      num_samples: random vectors, at least one.

    Returns:
      The mean and its standard error; it unpacks as `mean, standard_error`.

    Raises:
      TypeError: if an argument has the wrong type, a leaf of `params` is not floating,
        or the loss not a floating number.
      ValueError: if `params` or an array of `args` is empty, the loss is not a scalar
        or not finite at `params`, or `num_samples` is below one.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> curvature = jnp.array([1.0, 2.0, 5.0])
      >>> print(hto.flatness.hessian_trace(
      ...     lambda w, h: 0.5 * jnp.sum(h * w**2), jnp.ones(3), key=0, args=(curvature,)
      ... ).mean)
      8.0

    References:
      Hutchinson, "A stochastic estimator of the trace of the influence matrix",
      Communications in Statistics 18 (1989).
    """
    name = _TRACE
    params = check_params(name, params)
    check_key(name, key)
    args = check_args(name, args)
    num_samples = check_count(name, "num_samples", num_samples)
    loss_fn = check_loss(name, loss_fn, params, args)
    check_finite(name, loss_at(loss_fn, params, args))
    samples = jnp.arange(num_samples)
    forms = quadratic_forms(loss_fn, params, args, tagged_key(key, name), samples)
    return HessianTrace(*mean_and_standard_error(forms))
