"""Finds the minima and maxima of a function on the line exactly, or refuses them."""

import dataclasses
import itertools

import numpy as np

from heavytail_optax._validation import value_error
from heavytail_optax.dynamics._landscape import Landscape

_NUM_POINTS = 1000
_NUM_BISECTIONS = 60


def _bisect(landscape: Landscape, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A root of f' in each bracket, in which f' changes its sign."""
    sign = np.sign(landscape.gradients_at(left))
    for _ in range(_NUM_BISECTIONS):
        middle = 0.5 * (left + right)
        is_left = np.sign(landscape.gradients_at(middle)) == sign
        left, right = np.where(is_left, middle, left), np.where(is_left, right, middle)
    return 0.5 * (left + right)


def _brackets(
    function: str, landscape: Landscape, points: np.ndarray, rising: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each critical point, the closest points on both sides with the right f' sign.

    Args:
      points: rough critical points in increasing order, minima and maxima alternating.
      rising: true if f must rise on the right of the point, which is then a minimum.
    """
    argument = np.where(rising, "minima", "maxima")
    reach = np.diff(points, prepend=np.nan, append=np.nan)
    reach = np.fmin(reach[:-1], reach[1:])  # to the nearer neighbour
    reach = np.where(np.isnan(reach), 1.0, reach)
    # From a millionth of the distance to half of it. So an exact point stays within its
    # own bracket, and a rough one is still found.
    for share in (1e-6, 1e-4, 1e-2, 0.1, 0.25, 0.5):
        left, right = points - share * reach, points + share * reach
        falls_left = landscape.gradients_at(left) < 0.0
        falls_right = landscape.gradients_at(right) < 0.0
        fits = (falls_left == rising) & (falls_right == ~rising)
        if share == 1e-6:
            best_left, best_right, found = left, right, fits
            continue
        best_left = np.where(found, best_left, left)
        best_right = np.where(found, best_right, right)
        found = found | fits
    if not found.all():
        bad = int(np.argmin(found))
        kind = "minima" if rising[bad] else "maxima"
        accepted = f"{kind} of the function, nearer to them than to any other"
        raise value_error(function, str(argument[bad]), accepted, float(points[bad]))
    return best_left, best_right


def _check_monotone(function: str, landscape: Landscape) -> None:
    """Checks that f' keeps its sign between critical points, and outside them."""
    critical = np.sort([*landscape.minima, *landscape.maxima])
    beyond = max(0.5 * (critical[-1] - critical[0]), 1e-3)
    projection = landscape.projection
    lowest, highest = projection or (critical[0] - beyond, critical[-1] + beyond)
    stations = np.concatenate([[lowest], critical, [highest]])
    for index, (start, stop) in enumerate(itertools.pairwise(stations)):
        inside = np.linspace(start, stop, _NUM_POINTS + 2)[1:-1]
        is_falling = index % 2 == 0
        if not ((landscape.gradients_at(inside) < 0.0) == is_falling).all():
            accepted = (
                "all minima of the function, with exactly one maximum between two "
                f"neighbours, but it has another one between {start:.6g} and {stop:.6g}"
            )
            raise value_error(function, "minima", accepted, landscape.minima)


def polish(function: str, rough: Landscape) -> Landscape:
    """The landscape with its critical points exact up to rounding.

    Raises:
      ValueError: if a given point is not critical, or if there are other ones.
    """
    minima, maxima = np.asarray(rough.minima), np.asarray(rough.maxima)
    points = np.empty(minima.size + maxima.size)
    points[::2], points[1::2] = minima, maxima
    rising = np.arange(points.size) % 2 == 0
    roots = _bisect(rough, *_brackets(function, rough, points, rising))
    polished = dataclasses.replace(
        rough,
        minima=tuple(roots[::2].tolist()),
        ends=(rough.ends[0], *roots[1::2].tolist(), rough.ends[-1]),
    )
    _check_monotone(function, polished)
    return polished
