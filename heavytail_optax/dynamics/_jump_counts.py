"""J_b: the fewest truncated jumps that leave a field, in any dimension."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from heavytail_optax._keys import check_key, fold_in, tagged_key
from heavytail_optax._random import (
    direction_normals,
    random_words,
    signed_uniform_from_words,
    uniform_from_words,
)
from heavytail_optax._typing import Direction, Key, Scalar
from heavytail_optax._validation import check_choice, check_count, check_positive
from heavytail_optax.dynamics._jump_integrals import jumps_needed
from heavytail_optax.dynamics._landscape import Landscape, check_landscape

_NAME = "jumps_to_leave"
_FLOW_STEPS = 400
_FLOW_STEP = 0.1  # in units of one over the largest curvature at a minimum


def _fresh_directions(
    key: jax.Array, direction: Direction, shape: tuple[int, int], dtype: DTypeLike
) -> jax.Array:
    """Unit vectors, one per row: uniform, or along one axis in either direction."""
    if direction == "isotropic":
        normals = direction_normals(key, shape, dtype)
        return normals / jnp.linalg.norm(normals, axis=-1, keepdims=True)
    number, dimension = shape
    is_positive, share = signed_uniform_from_words(*random_words(key, (number,)), dtype)
    # The uniform is in (0, 1].
    axis = jnp.ceil(share * dimension).astype(jnp.int32) - 1
    sign = jnp.where(is_positive, 1.0, -1.0).astype(dtype)
    return jax.nn.one_hot(axis, dimension, dtype=dtype) * sign[:, None]


@functools.partial(jax.jit, static_argnames=("landscape", "direction"))
def _jump(
    landscape: Landscape,
    direction: Direction,
    key: jax.Array,
    points: jax.Array,
    last: jax.Array,
    bound: Scalar,
    step: ArrayLike,
) -> tuple[jax.Array, jax.Array]:
    """Flow for a random time, then a jump of at most b; half keep their direction."""
    wait_key, turn_key, fresh_key, size_key = jax.random.split(key, 4)
    number, dtype = len(points), points.dtype

    def uniform(key: jax.Array) -> jax.Array:
        return uniform_from_words(*random_words(key, (number,)), dtype)

    # A quarter jump again at once; the others wait, for short or long times.
    share = uniform(wait_key)
    waits = jnp.where(share < 0.25, 0.0, float(_FLOW_STEPS) ** (4 / 3 * (share - 0.25)))
    gradient = jax.vmap(landscape.gradient)

    def flow(index: ArrayLike, x: jax.Array) -> jax.Array:
        moves = (index < waits).astype(dtype)[:, None]
        return x - step * moves * gradient(x)

    points = jax.lax.fori_loop(0, _FLOW_STEPS, flow, points)
    fresh = _fresh_directions(fresh_key, direction, points.shape, dtype)
    turns = (uniform(turn_key) <= 0.5) | (last == 0.0).all(axis=-1)
    way = jnp.where(turns[:, None], fresh, last)
    # Most jumps have the largest length, as the large jumps of the theory do.
    size = jnp.minimum(2.0 * uniform(size_key), 1.0)
    points = points + bound * size[:, None] * way
    if landscape.projection is not None:
        low, high = (jnp.asarray(side, dtype) for side in landscape.projection)
        points = jnp.clip(points, low[None], high[None])
    return points, way


@jax.jit
def _picked(key: jax.Array, log_weights: jax.Array) -> jax.Array:
    """As many indices as there are weights, drawn in proportion to the weights."""
    shares = jnp.cumsum(jnp.exp(log_weights - log_weights.max()))
    words = random_words(key, log_weights.shape)
    return jnp.searchsorted(
        shares, shares[-1] * uniform_from_words(*words, log_weights.dtype)
    )


def _search(
    landscape: Landscape,
    field: int,
    key: jax.Array,
    bound: float,
    direction: Direction,
    num_samples: int,
    most: int,
) -> int:
    """The fewest jumps by which one of many random paths leaves; 0 if none does."""
    minima = np.asarray(landscape.minima)
    stiffest = np.abs(np.linalg.eigvalsh(landscape.curvatures_at(minima))).max()
    points = jnp.tile(jnp.asarray(minima[field])[None], (num_samples, 1))
    ways = jnp.zeros_like(points)
    for jumps in range(1, most + 1):
        key, jump_key, pick_key = jax.random.split(key, 3)
        points, ways = _jump(
            landscape=landscape,
            direction=direction,
            key=jump_key,
            points=points,
            last=ways,
            bound=bound,
            step=_FLOW_STEP / stiffest,
        )
        is_inside = np.asarray(landscape.field_of(points) == field)
        if not is_inside.all():
            return jumps
        # Paths that got far are continued in greater number.
        far = jnp.linalg.norm(points - jnp.asarray(minima[field])[None], axis=-1)
        picked = _picked(pick_key, 4.0 * far / bound)
        points, ways = points[picked], ways[picked]
    return 0


def jumps_to_leave(
    landscape: Landscape,
    *,
    key: Key,
    max_norm: float,
    direction: Direction = "isotropic",
    num_samples: int = 4096,
    max_jumps: int = 8,
) -> np.ndarray:
    r"""The fewest jumps of norm at most b that leave each field, with gradient flow between.

    .. math::
      J_b(i) = \min \{k : \text{some path } y_1 = m_i + u_1,\;
      y_{j+1} = \phi_{t_j}(y_j) + u_{j+1},\; |u_j| \le b,\; \text{has } y_k \notin
      \Omega_i\},

    where :math:`\phi_t` is gradient flow for any time :math:`t \ge 0`. Exits then take
    of the order of :math:`\eta^{-(\alpha + (J_b - 1)(\alpha - 1))}` steps. On the line,
    :math:`J_b(i)` is :math:`l^*_i = \lceil r_i / b \rceil`, and the result is exact. In
    R^d the direction of jumps matters, too, and flow may help. There the result is the
    better of two upper bounds. The first, for isotropic jumps, is the number of jumps
    on the straight line to the nearest point outside. The second is the best of many
    random paths; half of these keep the direction of their last jump. There may be a
    shorter way out.

    Args:
      landscape: on the line or in R^d.
      key: an integer seed, a typed key or a legacy key. Not used on the line.
      max_norm: b, positive.
      direction: `"isotropic"`: jumps in any direction. `"elementwise"`: jumps along one
        coordinate axis, like the large jumps of noise with independent entries.
      num_samples: number of random paths for each field.
      max_jumps: the largest number of jumps in the search by random paths.

    Returns:
      Integers of shape (K,); 0 if no way out was found.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if it is out of its range.

    Example:
      >>> import heavytail_optax as hto
      >>> double = hto.dynamics.wells_landscape([-0.3, 0.8], [0.0])
      >>> print(hto.dynamics.jumps_to_leave(double, key=0, max_norm=0.5))
      [1 2]

    References:
      Wang and Rhee (arXiv 2510.20905) for the count in R^d.
    """
    check_landscape(_NAME, landscape, on_the_line=False)
    check_key(_NAME, key)
    check_positive(_NAME, "max_norm", max_norm)
    check_choice(_NAME, "direction", direction, ("isotropic", "elementwise"))
    num_samples = check_count(_NAME, "num_samples", num_samples)
    max_jumps = check_count(_NAME, "max_jumps", max_jumps)
    bound = float(max_norm)
    if landscape.ends:
        return np.asarray([jumps_needed(width, bound) for width in landscape.widths])
    counts = []
    for field in range(landscape.num_fields):
        field_key = fold_in(tagged_key(key, _NAME), field)
        straight = 0
        if direction == "isotropic":
            straight = jumps_needed(landscape.widths[field], bound)
        most = min(straight - 1, max_jumps) if straight else max_jumps
        found = _search(
            landscape, field, field_key, bound, direction, num_samples, most
        )
        counts.append(found or straight)
    return np.asarray(counts)
