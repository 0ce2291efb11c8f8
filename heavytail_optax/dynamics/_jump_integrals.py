"""The measure of the ways out of a field with the fewest jumps, by quadrature."""

from collections.abc import Callable

import numpy as np

Slowness = Callable[[np.ndarray], np.ndarray]

_FIRST_NODES = 32
_MOST_NODES = 1024
_ACCURACY = 1e-10


def jumps_needed(distance: float, max_norm: float) -> int:
    """`ceil(distance / b)`, or 0 if there is no end to reach."""
    if not np.isfinite(distance):
        return 0
    return max(1, int(np.ceil(distance / max_norm)))


def _integral(
    distance: float,
    jumps: int,
    max_norm: float,
    alpha: float,
    slowness: Slowness,
    num_nodes: int,
) -> float:
    """K_l(0) of `way_out` with a given number of nodes at each level."""
    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)

    def last(u: np.ndarray) -> np.ndarray:
        return (distance - u) ** -alpha

    inner: Callable[[np.ndarray], np.ndarray] = last
    for level in range(1, jumps):
        lower = distance - level * max_norm

        def outer(u: np.ndarray, inner=inner, lower=lower) -> np.ndarray:
            u = np.asarray(u, np.float64)[..., None]
            half = 0.5 * (u + max_norm - lower)
            v = lower + half * (1.0 + nodes)
            integrand = (v - u) ** -alpha * inner(v) * slowness(v)
            return np.sum(half * weights * integrand, axis=-1)

        if level + 1 < jumps:
            domain = [lower - max_norm, (jumps - level - 1) * max_norm]
            inner = np.polynomial.Chebyshev.interpolate(outer, num_nodes, domain)
        else:
            inner = outer
    return float(inner(np.zeros(1))[0])


def way_out(
    distance: float, jumps: int, max_norm: float, alpha: float, slowness: Slowness
) -> tuple[float, float]:
    r"""The measure of the ways to cover a distance with `jumps` jumps to one side.

    .. math::
      K_1(u) = (d - u)^{-\alpha} 1\{d - u < b\}, \qquad
      K_{k+1}(u) = \int_{d-kb}^{u+b} (v-u)^{-\alpha} K_k(v) s(v)\, dv,

    The function returns :math:`K_l(0)`. s is the slowness `1 / |f'|` at a distance from
    the minimum. At every level the integrand is smooth, so Gauss's rule converges
    geometrically. The number of nodes is doubled until the value no longer changes.

    Args:
      distance: d, from the minimum to the target.
      jumps: l. With fewer jumps d must be out of reach: `d > (l - 1) b`.
      max_norm: b; infinite if the jumps are not truncated.
      alpha: the tail index.
      slowness: s, a function of an array of distances.

    Returns:
      The measure, 0 if d is out of reach, and its estimated relative error.
    """
    if not distance < jumps * max_norm:
        return 0.0, 0.0
    if jumps == 1:
        return float(distance**-alpha), 0.0
    num_nodes, error = _FIRST_NODES, np.inf
    value = _integral(distance, jumps, max_norm, alpha, slowness, num_nodes)
    while error > _ACCURACY and num_nodes < _MOST_NODES:
        num_nodes *= 2
        finer = _integral(distance, jumps, max_norm, alpha, slowness, num_nodes)
        value, error = finer, abs(finer - value) / abs(finer)
    return value, float(error)
