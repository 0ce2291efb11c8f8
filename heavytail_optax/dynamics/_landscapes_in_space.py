"""Landscapes in R^d."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._typing import Key
from heavytail_optax._validation import (
    check_count,
    check_positive,
    type_error,
    value_error,
)
from heavytail_optax.dynamics._landscape import (
    Landscape,
    in_float64,
)

_INF = float("inf")


def product_landscape(factors: Sequence[Landscape]) -> Landscape:
    r"""A landscape in R^d: a sum of landscapes on the line, one per coordinate.

    .. math:: f(x) = \sum_{k=1}^d f_k(x_k).

    Its fields are the products of the factors' fields. The last coordinate counts
    fastest: with factors of K and M fields, field `(i, j)` has index `i * M + j`.
    Gradient flow moves each coordinate independently, so exit times and jump counts
    follow from those on the line.

    Args:
      factors: d landscapes on the line, two or more.

    Returns:
      A `Landscape`; a point that is outside in one coordinate is outside.

    Raises:
      TypeError: if `factors` is not a sequence of landscapes.
      ValueError: if there are fewer than two, or one is not on the line.

    Example:
      >>> import heavytail_optax as hto
      >>> double = hto.dynamics.wells_landscape([-0.3, 0.8], [0.0])
      >>> plane = hto.dynamics.product_landscape(
      ...     [double, hto.dynamics.quadratic(1.0, 0.9, 0.7)]
      ... )
      >>> print(plane.minima)
      ((-0.3, 0.0), (0.8, 0.0))
      >>> print(plane.field_of([0.5, 0.1]), plane.field_of([0.5, 0.8]))
      1 -1
    """
    accepted = "a sequence of two or more landscapes on the line"
    if not isinstance(factors, (tuple, list)):
        raise type_error("product_landscape", "factors", accepted, factors)
    landscapes = tuple(factors)
    for factor in landscapes:
        if not isinstance(factor, Landscape):
            raise type_error("product_landscape", "factors", accepted, factor)
        if not factor.ends:
            raise value_error("product_landscape", "factors", accepted, factor.name)
    if len(landscapes) < 2:
        raise value_error("product_landscape", "factors", accepted, factors)
    counts = [factor.num_fields for factor in landscapes]

    def value(x: jax.Array) -> jax.Array:
        return sum(factor.value(x[k]) for k, factor in enumerate(landscapes))

    def gradient(x: jax.Array) -> jax.Array:
        return jnp.stack([factor.gradient(x[k]) for k, factor in enumerate(landscapes)])

    def classify(x: jax.Array) -> jax.Array:
        index, is_inside = jnp.int32(0), jnp.bool_(True)
        for k, (factor, count) in enumerate(zip(landscapes, counts, strict=True)):
            field = factor.field_of(x[k])
            is_inside &= (field >= 0) & (field < count)
            index = index * count + field
        return jnp.where(is_inside, index, -1)

    projection = None
    if any(factor.projection is not None for factor in landscapes):
        intervals = [factor.projection or (-_INF, _INF) for factor in landscapes]
        projection = tuple(zip(*intervals, strict=True))
    landscape = Landscape(
        name=" x ".join(factor.name for factor in landscapes),
        value=value,
        gradient=gradient,
        minima=tuple(itertools.product(*(factor.minima for factor in landscapes))),
        projection=projection,
        classify=classify,
    )
    # Known exactly: a field is a box, so the nearest outside point is along an axis.
    widths = itertools.product(*(factor.widths for factor in landscapes))
    landscape.__dict__["widths"] = np.asarray([min(sides) for sides in widths])
    return landscape


def _find_minima(landscape: Landscape, starts: np.ndarray, step: float) -> np.ndarray:
    """The minima that gradient descent, then Newton's method, reach from the starts."""

    def descend(x: jax.Array) -> jax.Array:
        x = jax.lax.fori_loop(0, 2000, lambda _, x: x - step * landscape.gradient(x), x)
        hessian = jax.jacfwd(landscape.gradient)
        return jax.lax.fori_loop(
            0,
            5,
            lambda _, x: x - jnp.linalg.solve(hessian(x), landscape.gradient(x)),
            x,
        )

    return in_float64(descend, starts)


def random_mixture(
    *,
    key: Key,
    dimension: int,
    num_minima: int,
    radius: float = 3.0,
    stddevs: tuple[float, float] = (0.5, 1.0),
) -> Landscape:
    r"""A random landscape in R^d: minus the log of a mixture of Gaussian bumps.

    .. math::
      f(x) = -\log \sum_k \exp\Bigl(-\frac{|x - c_k|^2}{2 \sigma_k^2}\Bigr),

    Centres are drawn uniformly in a ball, standard deviations log-uniformly. Centres
    closer than twice the sum of their standard deviations are drawn again, so that
    every centre has its own minimum close to it. The minima are found by descent and
    Newton's method in float64, and checked. The curvature at a minimum is close to
    :math:`\sigma_k^{-2}`. Far away, f is quadratic.

    Args:
      key: an integer seed, a typed key or a legacy key.
      dimension: d, at least 1.
      num_minima: K, at least 1.
      radius: radius of the ball of the centres, positive.
      stddevs: the smallest and the largest standard deviation, positive.

    Returns:
      A `Landscape`. Its `field_of` runs 400 steps of gradient descent.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of its range, or the ball has no room for the
        centres.

    Example:
      >>> import heavytail_optax as hto
      >>> landscape = hto.dynamics.random_mixture(key=0, dimension=3, num_minima=4)
      >>> print(landscape.num_fields, landscape.dimension)
      4 3
      >>> print(landscape.field_of(landscape.minima))
      [0 1 2 3]
    """
    function = "random_mixture"
    check_key(function, key)
    dimension = check_count(function, "dimension", dimension)
    num_minima = check_count(function, "num_minima", num_minima)
    check_positive(function, "radius", radius)
    accepted = "two positive numbers, the smaller one first"
    if not isinstance(stddevs, (tuple, list)) or len(stddevs) != 2:
        raise type_error(function, "stddevs", accepted, stddevs)
    for stddev in stddevs:
        check_positive(function, "stddevs", stddev)
    if stddevs[0] > stddevs[1]:
        raise value_error(function, "stddevs", accepted, stddevs)
    seed = np.asarray(jax.random.key_data(tagged_key(key, function)))
    rng = np.random.default_rng(seed)
    sigmas = np.exp(rng.uniform(*np.log(stddevs), num_minima))
    centres = _spread_centres(rng, sigmas, dimension, float(radius))
    if centres is None:
        accepted = f"large enough for {num_minima} separate centres"
        raise value_error(function, "radius", accepted, radius)
    landscape = _mixture(centres, sigmas)
    step = 0.25 * float(sigmas.min()) ** 2
    minima = _find_minima(landscape, centres, step)
    distances = np.linalg.norm(minima[:, None] - centres[None], axis=-1)
    is_separate = (distances.argmin(axis=-1) == np.arange(num_minima)).all()
    hessians = landscape.curvatures_at(minima)
    if not is_separate or np.linalg.eigvalsh(hessians).min() <= 0.0:
        accepted = "large enough for every centre to have its own minimum"
        raise value_error(function, "radius", accepted, radius)
    return _mixture(centres, sigmas, tuple(map(tuple, minima.tolist())), step)


def _spread_centres(
    rng: np.random.Generator, sigmas: np.ndarray, dimension: int, radius: float
) -> np.ndarray | None:
    """Centres in the ball, each pair separated; None if there is no room for them."""
    centres: list[np.ndarray] = []
    for k, sigma in enumerate(sigmas):
        for _ in range(1000):
            direction = rng.normal(size=dimension)
            length = radius * rng.uniform() ** (1.0 / dimension)
            centre = length * direction / np.linalg.norm(direction)
            gaps = [float(np.linalg.norm(centre - other)) for other in centres]
            if all(
                g > 2.0 * (sigma + s) for g, s in zip(gaps, sigmas[:k], strict=True)
            ):
                centres.append(centre)
                break
        else:
            return None
    return np.stack(centres)


def _mixture(
    centres: np.ndarray,
    sigmas: np.ndarray,
    minima: tuple[tuple[float, ...], ...] = (),
    step: float = 0.0,
) -> Landscape:
    """The landscape with the given centres; without minima, it serves to find them."""
    precisions = sigmas**-2.0

    def exponents(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        offsets = x[None, :] - jnp.asarray(centres, x.dtype)
        precision = jnp.asarray(precisions, x.dtype)
        return -0.5 * precision * jnp.sum(offsets**2, axis=-1), offsets

    def value(x: jax.Array) -> jax.Array:
        return -jax.nn.logsumexp(exponents(x)[0])

    def gradient(x: jax.Array) -> jax.Array:
        exponent, offsets = exponents(x)
        share = jax.nn.softmax(exponent) * jnp.asarray(precisions, x.dtype)
        return share @ offsets

    def classify(x: jax.Array) -> jax.Array:
        x = jnp.asarray(x, jnp.result_type(float))
        x = jax.lax.fori_loop(0, 400, lambda _, x: x - step * gradient(x), x)
        distance = jnp.sum((jnp.asarray(minima, x.dtype) - x[None, :]) ** 2, axis=-1)
        return jnp.argmin(distance).astype(jnp.int32)

    return Landscape(
        name=f"mixture of {len(sigmas)} in {centres.shape[1]} dimensions",
        value=value,
        gradient=gradient,
        minima=minima or tuple(map(tuple, centres.tolist())),
        classify=classify,
    )
