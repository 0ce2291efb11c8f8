"""Density of the eigenvalues of the Hessian."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._keys import check_key, fold_in, tagged_key
from heavytail_optax._result_text import is_one_number, short_repr, zero_hessian
from heavytail_optax._typing import Key, Params, PyTree, Scalar
from heavytail_optax._validation import check_count, check_positive
from heavytail_optax.flatness._arguments import (
    Loss,
    check_args,
    check_finite,
    check_loss,
    check_params,
)
from heavytail_optax.flatness._lanczos import hessian_operator, krylov
from heavytail_optax.flatness._loss_changes import loss_at
from heavytail_optax.flatness._perturbation import signs

_NAME = "hessian_density"


class HessianDensity(NamedTuple):
    """Result of `hessian_density`, in at least float32.

    Attributes:
      eigenvalues: the grid of the density, ascending. shape=(num_points,).
      density: density per unit of eigenvalue; its integral is one. shape=(num_points,).
      standard_error: that of the density; NaN for one sample. shape=(num_points,).
      width: standard deviation of the Gaussians whose sum is the density. shape=().
      nodes: Ritz values of each sample; NaN beyond an exhausted Krylov space.
        shape=(num_samples, num_matvecs).
      weights: weights of the nodes; they sum to one for each sample. Same shape.
    """

    eigenvalues: jax.Array
    density: jax.Array
    standard_error: jax.Array
    width: jax.Array
    nodes: jax.Array
    weights: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.width):
            return repr(self)
        low, high = jnp.nanmin(self.nodes), jnp.nanmax(self.nodes)
        vectors = self.nodes.shape[0]
        is_zero = bool(low == 0.0) and bool(high == 0.0)
        found = (
            f"density of the eigenvalues from {low:.4g} to {high:.4g}, smoothed over "
            f"{self.width:.2g}: mean over {vectors} random vector{'s' * (vectors > 1)}"
        )
        return found + zero_hessian("every product with the Hessian") * is_zero


@functools.partial(jax.jit, static_argnames=("loss_fn", "num_matvecs"))
def quadrature(
    loss_fn: Loss,
    params: Params,
    args: tuple[PyTree, ...],
    key: jax.Array,
    samples: jax.Array,
    *,
    num_matvecs: int,
) -> tuple[jax.Array, jax.Array]:
    """Nodes and weights of the samples with these numbers, shape=(n, num_matvecs)."""
    product, origin = hessian_operator(loss_fn, params, args)

    def of_sample(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        start = signs(fold_in(key, index), origin)
        space = krylov(product, start, num_matvecs)
        weights = space.coefficients[0] ** 2
        return space.values, jnp.where(jnp.isnan(space.values), 0.0, weights)

    return jax.lax.map(of_sample, samples)


@functools.partial(jax.jit, static_argnames="num_points")
def smooth(
    nodes: jax.Array, weights: jax.Array, width: jax.Array, *, num_points: int
) -> HessianDensity:
    low, high = jnp.nanmin(nodes), jnp.nanmax(nodes)
    # With the default, the width is positive even if there is only one eigenvalue.
    size = jnp.where((high - low) > 0.0, high - low, jnp.maximum(jnp.abs(high), 1.0))
    width = jnp.where(jnp.isnan(width), size / 100.0, width)
    points = jnp.linspace(low - 4.0 * width, high + 4.0 * width, num_points)
    centres = jnp.where(jnp.isnan(nodes), low, nodes)

    def at_point(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        bells = jax.scipy.stats.norm.pdf(point, centres, width)
        values = jnp.sum(weights * bells, axis=1)
        n = values.shape[0]
        spread = jnp.std(values, ddof=1) if n > 1 else jnp.full_like(values[0], jnp.nan)
        return jnp.mean(values), spread / n**0.5

    density, error = jax.lax.map(at_point, points)
    return HessianDensity(points, density, error, width, nodes, weights)


def hessian_density(
    loss_fn: Loss,
    params: Params,
    *,
    key: Key,
    args: tuple[PyTree, ...] = (),
    num_samples: int = 10,
    num_matvecs: int = 50,
    width: Scalar | None = None,
    num_points: int = 1000,
) -> HessianDensity:
    r"""Density of the eigenvalues of the Hessian, by stochastic Lanczos quadrature.

    .. math::
      \varphi(t) = \frac1n \sum_{i=1}^n g_w(t - \lambda_i)
      \approx \frac1m \sum_{j=1}^m \sum_k \tau_{jk}\, g_w(t - \vartheta_{jk}),

    where :math:`\lambda_i` are the n eigenvalues and :math:`g_w` is the Gaussian
    density with standard deviation `width`. For each of m random sign vectors, Lanczos'
    algorithm gives the nodes and weights of a Gauss quadrature. The standard error is
    that of the mean over the m vectors. One eigenvalue in a million has weight 1e-6, so
    use `hessian_eigenvalues` for the extreme ones. For the Gauss-Newton matrix instead
    of the Hessian, use `gauss_newton_loss`. For data that do not fit at once, use
    `mean_over_batches`.

    Cost: `num_samples * num_matvecs` Hessian-vector products, each about two gradients.
    The memory is that of `num_matvecs` vectors of the size of the parameters.

    Args:
      loss_fn: L, called as `loss_fn(params, *args)`, that returns one floating number
        and is twice differentiable.
      params: theta, a pytree of floating arrays.
      key: an integer seed, a typed key or a legacy key.
      args: the data, and any other arguments of the loss after the parameters.
      num_samples: m, the number of random vectors, at least one.
      num_matvecs: number of nodes for each vector, but at most the number of
        parameters.
      width: w, positive, in units of the eigenvalues. Default: a hundredth of the range
        of the nodes.
      num_points: number of grid points, at least two. They are equally spaced over the
        range of the nodes and four widths more on each side.

    Returns:
      A `HessianDensity`. For any f, `sum(weights * f(nodes), axis=1)` estimates the
      mean of `f(eigenvalue)`, once for each sample.

    Raises:
      TypeError: if an argument has the wrong type, a leaf of `params` is not floating,
        or the loss not a floating number.
      ValueError: if `params` or an array of `args` is empty, the loss is not a scalar
        or not finite at `params`, a count is too small, or `width` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> curvature = jnp.array([1.0, 1.0, 1.0, 5.0])
      >>> result = hto.flatness.hessian_density(
      ...     lambda w, h: 0.5 * jnp.sum(h * w**2), jnp.ones(4), key=0, args=(curvature,)
      ... )
      >>> near_one = result.eigenvalues < 3.0
      >>> share = jnp.trapezoid(result.density * near_one, result.eigenvalues)
      >>> print(round(float(share), 3))
      0.75

    References:
      Ghorbani, Krishnan, Xiao, "An investigation into neural net optimization via
      Hessian eigenvalue density", ICML 2019 (arXiv 1901.10159); Yao et al.,
      "PyHessian", 2020 (arXiv 1912.07145).
    """
    params = check_params(_NAME, params)
    check_key(_NAME, key)
    args = check_args(_NAME, args)
    num_samples = check_count(_NAME, "num_samples", num_samples)
    num_matvecs = check_count(_NAME, "num_matvecs", num_matvecs)
    if width is not None:
        check_positive(_NAME, "width", width)
    num_points = check_count(_NAME, "num_points", num_points, least=2)
    loss_fn = check_loss(_NAME, loss_fn, params, args)
    check_finite(_NAME, loss_at(loss_fn, params, args))
    nodes, weights = quadrature(
        loss_fn,
        params,
        args,
        tagged_key(key, _NAME),
        jnp.arange(num_samples),
        num_matvecs=min(num_matvecs, sum(x.size for x in jax.tree.leaves(params))),
    )
    width = jnp.asarray(jnp.nan if width is None else width, nodes.dtype)
    return smooth(nodes, weights, width, num_points=num_points)
