"""Landscapes on the line."""

import functools
import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from heavytail_optax._validation import (
    check_positive,
    check_scalar,
    type_error,
    value_error,
)
from heavytail_optax.dynamics._landscape import Function, Landscape

_INF = float("inf")


def _four_minima_parts(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """f and f' of the paper's landscape, and the root that they have in common.

    With `P = (x + 1.3)(x - 0.2)(x - 0.7)`, `w = x^2 - 2.56` and the product G of the
    other, positive factors, `f = w P^2 G` and
    `f' = P G (2 x P + 2 w P' + w P (log G)')`.
    """
    root = (x + 1.3) * (x - 0.2) * (x - 0.7)
    root_slope = (x - 0.2) * (x - 0.7) + (x + 1.3) * (2.0 * x - 0.9)
    walls = x * x - 2.56
    near_right = 0.01 + 4.0 * (x - 0.5) ** 2
    near_left = 0.1 + 4.0 * (x + 1.5) ** 2
    bump = 0.25 * jnp.exp(-5.0 * (x + 0.8) ** 2)
    # The paper's |1.65 - x|: x is below 1.65 after projection; beyond, stay finite.
    distance = jnp.abs(1.65 - x)
    # As exp and log: XLA's power takes as long as all the rest of f' together.
    factor = (
        jnp.exp(0.6 * jnp.log(0.05 * distance))
        * (1.0 + 1.0 / near_right)
        * (1.0 + 1.0 / near_left)
        * (1.0 - bump)
    )
    log_slope = (
        -0.6 / (1.65 - x)
        - 8.0 * (x - 0.5) / (near_right * (near_right + 1.0))
        - 8.0 * (x + 1.5) / (near_left * (near_left + 1.0))
        + 10.0 * (x + 0.8) * bump / (1.0 - bump)
    )
    slope = 2.0 * x * root + walls * (2.0 * root_slope + root * log_slope)
    return walls * root * root * factor, root * factor * slope, root


def _four_minima_value(x: jax.Array) -> jax.Array:
    return _four_minima_parts(x)[0]


def _four_minima_gradient(x: jax.Array) -> jax.Array:
    return _four_minima_parts(x)[1]


_FOUR_MINIMA = Landscape(
    name="four minima",
    value=_four_minima_value,
    gradient=_four_minima_gradient,
    minima=(
        -1.5114836478324736,
        -0.6992730551356218,
        0.4962445383630557,
        1.3220937451679140,
    ),
    ends=(-_INF, -1.3, 0.2, 0.7, _INF),
    projection=(-1.6, 1.6),
)


def four_minima() -> Landscape:
    r"""The paper's landscape: four minima, two of them narrow, on [-1.6, 1.6].

    .. math::
      f(x) ={}& (x+1.6)(x+1.3)^2 (x-0.2)^2 (x-0.7)^2 (x-1.6)\,(0.05\,|1.65-x|)^{0.6} \\
      &\times \Bigl(1 + \frac{1}{0.01 + 4(x-0.5)^2}\Bigr)
      \Bigl(1 + \frac{1}{0.1 + 4(x+1.5)^2}\Bigr)
      \Bigl(1 - \tfrac14 e^{-5(x+0.8)^2}\Bigr),

    with iterates projected to [-1.6, 1.6]. The maxima are -1.3, 0.2 and 0.7. For
    :math:`0.4497 < b < 0.6007`, it takes one jump to leave the narrow fields 0 and 2,
    and two to leave the wide fields 1 and 3. The narrow minima are also the deepest.
    Gradient descent is unstable at them above learning rates of 0.0122 and 0.00448, so
    only smaller learning rates show the effect of noise.

    Returns:
      A `Landscape`.

    Example:
      >>> import heavytail_optax as hto
      >>> landscape = hto.dynamics.four_minima()
      >>> print([round(minimum, 4) for minimum in landscape.minima])
      [-1.5115, -0.6993, 0.4962, 1.3221]
      >>> print(round(landscape.curvature(2), 1))
      446.3

    References:
      Wang, Oh, Rhee, ICLR 2022 (arXiv 2102.04297), the simulated function f.
    """
    return _FOUR_MINIMA


@functools.lru_cache(maxsize=128)
def _quadratic_functions(kappa: float) -> tuple[Function, Function]:
    """Value and gradient; cached, because compiled code is found by these objects."""

    def value(x: jax.Array) -> jax.Array:
        return 0.5 * kappa * x * x

    def gradient(x: jax.Array) -> jax.Array:
        return kappa * x

    return value, gradient


def quadratic(curvature: float, left: float, right: float) -> Landscape:
    r"""A quadratic well that a chain can leave at either of two ends.

    .. math:: f(x) = \tfrac12 \kappa x^2 \qquad \text{on } (-d_L, d_R).

    The only minimum is 0. The outside has index -1 on the left and 1 on the right.

    Args:
      curvature: kappa, positive.
      left: the distance d_L to the left end, positive; infinite for none.
      right: the distance d_R to the right end, positive; infinite for none.

    Returns:
      A `Landscape`.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if it is not positive.

    Example:
      >>> import heavytail_optax as hto
      >>> well = hto.dynamics.quadratic(1.0, 0.9, 0.7)
      >>> print(well.sides, well.field_of(0.8))
      [[0.9 0.7]] 1
    """
    check_positive("quadratic", "curvature", curvature)
    kappa = float(curvature)
    for name, end in (("left", left), ("right", right)):
        check_scalar(
            "quadratic",
            name,
            end,
            accepted="a positive number, or infinity",
            is_valid=lambda number: number > 0.0,
        )
    value, gradient = _quadratic_functions(kappa)
    return Landscape(
        name=f"quadratic, curvature {kappa:g}",
        value=value,
        gradient=gradient,
        minima=(0.0,),
        ends=(-float(left), float(right)),
    )


def _numbers(
    function: str, argument: str, values: npt.ArrayLike, count: int | None
) -> np.ndarray:
    """A sequence of finite numbers as float64, of a given length if it is not None."""
    size = "at least one" if count is None else str(count)
    accepted = f"a sequence of {size} finite number{'s' * (count != 1)}"
    is_sequence = isinstance(values, Sequence) or getattr(values, "ndim", 0) == 1
    if not is_sequence or isinstance(values, str):
        raise type_error(function, argument, accepted, values)
    is_number = [
        isinstance(x, numbers.Real) and not isinstance(x, bool) for x in list(values)
    ]
    if not all(is_number):
        raise type_error(function, argument, accepted, values)
    array = np.asarray(values, np.float64)
    if not array.size if count is None else array.size != count:
        raise value_error(function, argument, accepted, values)
    if not np.isfinite(array).all():
        raise value_error(function, argument, accepted, values)
    return array


def _alternating(
    function: str, minima: Sequence[float], maxima: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Minima in increasing order, and one maximum between any two neighbours."""
    lows = _numbers(function, "minima", minima, None)
    if not (np.diff(lows) > 0.0).all():
        accepted = "in strictly increasing order"
        raise value_error(function, "minima", accepted, minima)
    accepted = "one number between any two neighbouring minima"
    highs = _numbers(function, "maxima", maxima, lows.size - 1)
    if not ((lows[:-1] < highs) & (highs < lows[1:])).all():
        raise value_error(function, "maxima", accepted, maxima)
    return lows, highs


def _positive(
    function: str, argument: str, values: npt.ArrayLike, count: int
) -> np.ndarray:
    """`count` positive numbers; one number stands for all of them."""
    if isinstance(values, numbers.Real) and not isinstance(values, bool):
        values = (values,) * count
    array = _numbers(function, argument, values, count)
    if not (array > 0.0).all():
        raise value_error(function, argument, "positive numbers", values)
    return array


def wells_landscape(
    minima: Sequence[float],
    maxima: Sequence[float],
    curvatures: float | Sequence[float] = 1.0,
    *,
    maxima_curvatures: float | Sequence[float] | None = None,
) -> Landscape:
    r"""Two or more wells with given minima, maxima and curvatures.

    Between neighbouring critical points, f' is the cubic that vanishes at both and has
    the given slopes there. With h the distance from a minimum of curvature k to a
    maximum of curvature -g, and :math:`t \in (0, 1)` the relative position between
    them,

    .. math:: |f'| = h\,\bigl(k\, t (1-t)^2 + g\, t^2 (1-t)\bigr) > 0.

    So there are no other critical points, f'' is continuous, and beyond the outermost
    minima f is quadratic. f is zero at the first minimum.

    Args:
      minima: K numbers in increasing order.
      maxima: K - 1 numbers, one between any two neighbouring minima.
      curvatures: f'' at the minima, K positive numbers, or one for all.
      maxima_curvatures: -f'' at the maxima, K - 1 positive numbers, or one for all.
        Default: the geometric mean of the curvatures of the two neighbouring minima.

    Returns:
      A `Landscape`.

    Raises:
      TypeError: if an argument is not a sequence of numbers.
      ValueError: if the count or order of the numbers is wrong, or a curvature is not
        positive.

    Example:
      >>> import heavytail_optax as hto
      >>> double = hto.dynamics.wells_landscape([-0.3, 0.8], [0.0], [20.0, 2.0])
      >>> print(double.widths, round(double.curvature(1), 6))
      [0.3 0.8] 2.0
    """
    function = "wells_landscape"
    lows, highs = _alternating(function, minima, maxima)
    kappas = _positive(function, "curvatures", curvatures, lows.size)
    if maxima_curvatures is None:
        tops = np.sqrt(kappas[:-1] * kappas[1:])
    else:
        tops = _positive(function, "maxima_curvatures", maxima_curvatures, highs.size)
    knots = np.empty(2 * lows.size - 1)
    slopes = np.empty_like(knots)
    knots[::2], knots[1::2] = lows, highs
    slopes[::2], slopes[1::2] = kappas, -tops
    value, gradient = _wells_functions(tuple(knots.tolist()), tuple(slopes.tolist()))
    return Landscape(
        name=f"{lows.size} wells",
        value=value,
        gradient=gradient,
        minima=tuple(lows.tolist()),
        ends=(-_INF, *highs.tolist(), _INF),
    )


@functools.lru_cache(maxsize=128)
def _wells_functions(
    knots: tuple[float, ...], slopes: tuple[float, ...]
) -> tuple[Function, Function]:
    """Value and gradient of the wells with given f'' at the critical points."""
    starts = np.asarray([[knots[0], *knots]])
    table = np.vstack([starts, _quartics(np.asarray(knots), np.asarray(slopes))])

    def piece(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Distance from the knot on the left, and the coefficients of the piece."""
        x = jnp.asarray(x)
        first, *others = table.T.tolist()
        found = [jnp.full_like(x, entry) for entry in first]
        # Not by index: explicit sharding refuses to index by points on several devices.
        for knot, column in zip(knots, others, strict=True):
            is_right = x >= knot
            found = [
                jnp.where(is_right, entry, left)
                for entry, left in zip(column, found, strict=True)
            ]
        start, *coefficients = found
        return x - start, coefficients

    def value(x: jax.Array) -> jax.Array:
        u, (c0, c2, c3, c4) = piece(x)
        return c0 + u * u * (c2 + u * (c3 + u * c4))

    def gradient(x: jax.Array) -> jax.Array:
        u, (_, c2, c3, c4) = piece(x)
        return u * (2.0 * c2 + u * (3.0 * c3 + u * 4.0 * c4))

    return value, gradient


def _quartics(knots: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Coefficients of 1, u^2, u^3, u^4 of f on each piece, u from the knot on the left.

    The first piece is left of all knots, with u from the first knot. shape=(4, n + 1).
    """
    # f' = slope u (1 - u/h)^2 + next (u/h)^2 (u - h), the cubic Hermite interpolant.
    h, left, right = np.diff(knots), slopes[:-1], slopes[1:]
    c2 = left / 2.0
    c3 = -(2.0 * left + right) / (3.0 * h)
    c4 = (left + right) / (4.0 * h**2)
    levels = np.concatenate([[0.0], np.cumsum(h**2 * (c2 + h * c3 + h**2 * c4))])
    zero = np.zeros(1)
    return np.stack(
        [
            np.concatenate([zero, levels]),
            np.concatenate([slopes[:1] / 2.0, c2, slopes[-1:] / 2.0]),
            np.concatenate([zero, c3, zero]),
            np.concatenate([zero, c4, zero]),
        ]
    )


def landscape_on_line(
    value: Function,
    *,
    minima: Sequence[float],
    maxima: Sequence[float],
    gradient: Function | None = None,
    projection: tuple[float, float] | None = None,
    name: str = "function on the line",
) -> Landscape:
    """A landscape from any smooth function on the line, checked in float64.

    The given critical points may be rough: bisection of f' refines them. f must rise
    between a minimum and the next maximum, and outwards from the outermost minima. This
    is checked on a grid of 1000 points each; outwards, the grid ends at the projection
    or, without one, after half the distance between the outermost critical points.

    Args:
      value: f, a pure JAX function from a scalar to a scalar of the same dtype.
      minima: K numbers in increasing order, each closer to its minimum than the
        minimum is to the ends of its field.
      maxima: K - 1 numbers, one between any two neighbouring minima.
      gradient: f'. Default: automatic differentiation.
      projection: `(lowest, highest)`, to which iterates are clipped, or None.
      name: the name in tables and figures.

    Returns:
      A `Landscape`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if a given minimum is not one, or if f does not have exactly one
        maximum between two neighbouring minima.

    Example:
      >>> import heavytail_optax as hto
      >>> double = hto.dynamics.landscape_on_line(
      ...     lambda x: (x**2 - 1.0) ** 2, minima=[-0.9, 1.1], maxima=[0.1]
      ... )
      >>> print([round(minimum, 9) for minimum in double.minima], double.widths.round(9))
      [-1.0, 1.0] [1. 1.]
    """
    from heavytail_optax.dynamics._critical_points import polish

    function = "landscape_on_line"
    if not callable(value):
        raise type_error(function, "value", "a function of a scalar", value)
    if not isinstance(name, str):
        raise type_error(function, "name", "a string", name)
    if gradient is not None and not callable(gradient):
        raise type_error(function, "gradient", "a function of a scalar", gradient)
    lows, highs = _alternating(function, minima, maxima)
    if projection is not None:
        lowest, highest = _numbers(function, "projection", projection, 2)
        if not lowest < lows[0] <= lows[-1] < highest:
            accepted = "two numbers with all minima between them"
            raise value_error(function, "projection", accepted, projection)
        projection = (float(lowest), float(highest))
    rough = Landscape(
        name=name,
        value=value,
        gradient=jax.grad(value) if gradient is None else gradient,
        minima=tuple(lows.tolist()),
        ends=(-_INF, *highs.tolist(), _INF),
        projection=projection,
    )
    return polish(function, rough)
