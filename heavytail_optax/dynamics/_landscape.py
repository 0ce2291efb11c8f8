"""A landscape: the function that the chain of the theory descends, and its fields."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from heavytail_optax._validation import is_integer, type_error, value_error
from heavytail_optax.dynamics._widths import field_widths

Function = Callable[[Any], Any]


@functools.lru_cache(maxsize=128)
def _compiled(function: Function, differentiate: bool) -> Function:
    return jax.jit(jax.vmap(jax.jacfwd(function) if differentiate else function))


def in_float64(
    function: Function, points: npt.ArrayLike, *, differentiate: bool = False
) -> np.ndarray:
    """A function, or its derivative, at points along the first axis, by JAX in float64."""
    with jax.enable_x64(True):
        points = jnp.asarray(np.asarray(points, np.float64))
        return np.asarray(_compiled(function, differentiate)(points))


@dataclasses.dataclass(frozen=True)
class Landscape:
    r"""A function f on the line or in R^d, with its minima and attraction fields.

    On the line, field i is the interval :math:`(s_i, s_{i+1})` around the minimum
    :math:`m_i`. Its ends are maxima of f, infinite, or ends at which a chain is
    stopped. Fields are counted from 0; the paper counts from 1. In R^d, field i is the
    set of points that gradient flow takes to :math:`m_i`.

    `four_minima`, `quadratic`, `wells_landscape` and `landscape_on_line` make
    landscapes on the line; `product_landscape` and `random_mixture` make them in R^d. A
    landscape is hashable, so it can be a static argument of compiled code.

    Attributes:
      name: the name in tables and figures.
      value: f, a pure function of one point: a scalar, or an array of shape (d,). It
        computes in the dtype of the point.
      gradient: f', with the shape and dtype of the point.
      minima: on the line, numbers in increasing order; in R^d, a tuple of d numbers
        each.
      ends: on the line, the K + 1 numbers :math:`s_0 < \dots < s_K` around K fields;
        the outer ones may be infinite. Empty in R^d.
      projection: the range to which iterates are clipped: on the line
        `(lowest, highest)`, in R^d two tuples of d numbers. None for no projection.
        Clipping does not count as an exit.
      classify: in R^d, the function from a point to the index of its field, -1 outside
        all of them. None on the line.

    Example:
      >>> import heavytail_optax as hto
      >>> landscape = hto.dynamics.four_minima()
      >>> print(landscape.num_fields, landscape.field_of(0.5), landscape.maxima)
      4 2 (-1.3, 0.2, 0.7)
      >>> print(landscape.widths.round(4))
      [0.2115 0.6007 0.2038 0.6221]
    """

    name: str
    value: Function
    gradient: Function
    minima: tuple[float, ...] | tuple[tuple[float, ...], ...]
    ends: tuple[float, ...] = ()
    projection: tuple[ArrayLike, ArrayLike] | None = None
    classify: Function | None = None

    @property
    def dimension(self) -> int | None:
        """d in R^d; None on the line, where points are scalars."""
        return None if self.ends else len(self.minima[0])

    @property
    def num_fields(self) -> int:
        """K, the number of minima."""
        return len(self.minima)

    @property
    def maxima(self) -> tuple[float, ...]:
        """The ends between two fields; only on the line."""
        return self.ends[1:-1]

    def field_of(self, x: npt.ArrayLike) -> jax.Array:
        """The index of the field of a point, of x's batch shape; traceable.

        On the line x may have any shape. A point below the first end is in field -1,
        and a point at or above the last end is in field K. In R^d the last axis of x
        holds the coordinates, and a point outside all fields is in field -1.
        """
        x = jnp.asarray(x)
        if self.classify is not None:
            classify: Function = self.classify
            for _ in range(x.ndim - 1):
                classify = jax.vmap(classify)
            return classify(x)
        return sum(
            ((x >= end).astype(jnp.int32) for end in self.ends),
            start=jnp.full(x.shape, -1, jnp.int32),
        )

    @functools.cached_property
    def sides(self) -> np.ndarray:
        """Distances from each minimum to the left and right end. shape=(K, 2)."""
        if not self.ends:
            accepted = "on the line for `sides`"
            raise value_error("Landscape.sides", "landscape", accepted, self.name)
        minima, ends = np.asarray(self.minima), np.asarray(self.ends)
        return np.stack([minima - ends[:-1], ends[1:] - minima], axis=-1)

    @functools.cached_property
    def widths(self) -> np.ndarray:
        """Distance from each minimum to the outside of its field. shape=(K,).

        In R^d it is found along random directions, so it is a little too large.
        """
        if self.ends:
            return self.sides.min(axis=-1)
        return field_widths(self.field_of, np.asarray(self.minima))

    def values_at(self, points: npt.ArrayLike) -> np.ndarray:
        """f in float64 at points along the first axis of a NumPy array."""
        return in_float64(self.value, points)

    def gradients_at(self, points: npt.ArrayLike) -> np.ndarray:
        """f' in float64 at points along the first axis of a NumPy array."""
        return in_float64(self.gradient, points)

    def curvatures_at(self, points: npt.ArrayLike) -> np.ndarray:
        """f'', in R^d the Hessian, in float64 at points along the first axis."""
        return in_float64(self.gradient, points, differentiate=True)

    def curvature(self, field: int) -> float | np.ndarray:
        """f'' at the minimum of a field in float64; in R^d the Hessian, shape (d, d)."""
        field = check_field("Landscape.curvature", self, field)
        hessian = self.curvatures_at(np.asarray(self.minima[field])[None])[0]
        return float(hessian) if hessian.ndim == 0 else hessian


def check_landscape(function: str, landscape: object, *, on_the_line: bool) -> None:
    """Checks that a landscape is one, and is on the line where it has to be."""
    accepted = "a `Landscape`" + (" on the line" if on_the_line else "")
    if not isinstance(landscape, Landscape):
        raise type_error(function, "landscape", accepted, landscape)
    if on_the_line and not landscape.ends:
        raise value_error(function, "landscape", accepted, landscape.name)


def check_field(
    function: str, landscape: Landscape, field: object, argument: str = "field"
) -> int:
    """The index of a field, as a Python integer."""
    accepted = f"an integer from 0 to {landscape.num_fields - 1}"
    if not is_integer(field):
        raise type_error(function, argument, accepted, field)
    if not 0 <= field < landscape.num_fields:
        raise value_error(function, argument, accepted, field)
    return int(field)
