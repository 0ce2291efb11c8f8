"""How long gradient flow takes within a field."""

import numpy as np

from heavytail_optax.dynamics._landscape import Landscape

_EDGE = 0.05
_NUM_NODES = 200


def _flow_time(landscape: Landscape, field: int, sign: float, width: float) -> float:
    """Time of gradient flow from 5 % inside the end of a field to 5 % off its minimum."""
    # With u = width / (1 + exp(-z)), du = u (1 - u / width) dz, the factors at both
    # ends cancel the zeros of f' there.
    end = np.log((1.0 - _EDGE) / _EDGE)
    nodes, weights = np.polynomial.legendre.leggauss(_NUM_NODES)
    u = width / (1.0 + np.exp(-end * nodes))
    slope = np.abs(landscape.gradients_at(landscape.minima[field] + sign * u))
    return float(end * np.sum(weights * u * (1.0 - u / width) / slope))


def relaxation_time(landscape: Landscape, field: int) -> float:
    """t_rel, the slowest time in a field on the line, in units of gradient flow.

    This is the largest of `1 / f''(m)` and the times of gradient flow from 5 % inside
    each finite end to 5 % from the minimum, as shares of the distance between the two.
    """
    times = [1.0 / float(landscape.curvature(field))]
    for sign, width in zip((-1.0, 1.0), landscape.sides[field], strict=True):
        if np.isfinite(width):
            times.append(_flow_time(landscape, field, sign, width))
    return max(times)


def folding_time(landscape: Landscape, field: int) -> float:
    """The time in which a distance shrinks by a factor e; `1 / f''` for a quadratic."""
    shrinkage = np.log((1.0 - _EDGE) / _EDGE)
    time = relaxation_time(landscape, field) / shrinkage
    return max(time, 1.0 / float(landscape.curvature(field)))
