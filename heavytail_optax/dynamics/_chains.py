"""Many chains in parallel: start positions, and compiled chunks of counted steps."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from heavytail_optax._typing import PyTree
from heavytail_optax._validation import value_error
from heavytail_optax._wide_vectors import program_of_the_host
from heavytail_optax.dynamics._landscape import Landscape
from heavytail_optax.dynamics._process import Process, SgdProcess

MAX_STEPS = 2**31 - 1
"""The most steps of a chain: transformations count in int32; noise depends on it."""


class Counters(NamedTuple):
    """What one chunk counts, once every `record_every` steps.

    Attributes:
      field: records of each chain in each field. shape=(K, n), dtype=int32.
      near: records near each minimum. shape=(K, n), dtype=int32.
      label: records during which each minimum was the last one visited. shape=(K, n).
      transitions: moves from the last minimum visited to another one. shape=(K, K),
        dtype=int32.
    """

    field: jax.Array
    near: jax.Array
    label: jax.Array
    transitions: jax.Array


class Regions(NamedTuple):
    """What counts as near each minimum.

    Attributes:
      radii: shape=(K,), float.
      is_landmark: whether a visit there counts in the jump chain. shape=(K,), bool.
    """

    radii: jax.Array
    is_landmark: jax.Array


def start_positions(
    function: str, landscape: Landscape, start: npt.ArrayLike, num_chains: int
) -> jax.Array:
    """Points of shape (n,), or (n, d) in R^d, from one point or one for each chain.

    Raises:
      ValueError: if it has another shape, or a point is not finite.
    """
    point = () if landscape.dimension is None else (landscape.dimension,)
    accepted = f"finite, of shape {point} or {(num_chains, *point)}"
    points = np.asarray(start, float)
    if points.shape not in (point, (num_chains, *point)) or not np.all(
        np.isfinite(points)
    ):
        raise value_error(function, "start", accepted, start)
    return jnp.asarray(np.broadcast_to(points, (num_chains, *point)), float)


def check_resolution(function: str, landscape: Landscape, process: Process) -> None:
    """Refuses steps that are too small to change the position.

    Raises:
      ValueError: if the noise of one step is below the spacing of numbers there.
    """
    if not isinstance(process, SgdProcess) or process.scale == 0:
        return
    dtype = jnp.result_type(float)
    points = np.abs(np.concatenate([np.ravel(landscape.minima), landscape.ends]))
    largest = float(np.max(points, where=np.isfinite(points), initial=0.0))
    spacing = float(jnp.finfo(dtype).eps) * largest
    if float(process.learning_rate) * float(process.scale) < spacing:
        accepted = (
            f"a process whose noise, learning rate times scale, is at least {spacing:.1g}"
            f", the spacing of {dtype} numbers there: smaller steps would be lost"
            + (" (float64 has more digits: `jax_enable_x64`)" * (dtype == jnp.float32))
        )
        raise value_error(function, "process", accepted, process)


def check_numbers(positions: jax.Array, num_steps: int) -> None:
    """Refuses to continue with chains that diverged.

    Raises:
      FloatingPointError: if a position is NaN or infinite.
    """
    bad = int(jnp.sum(~jnp.isfinite(positions)))
    if bad:
        raise FloatingPointError(
            f"After {num_steps} steps {bad} positions are NaN or infinite: the process "
            "diverges. Lower its learning rate (plain gradient descent needs less than "
            "2/f'' at a minimum), truncate its updates, or give the landscape a "
            "projection."
        )


def is_near(
    landscape: Landscape, radii: jax.Array, positions: jax.Array
) -> list[jax.Array]:
    """Whether each chain is within the radius of each minimum: K arrays of shape (n,)."""
    near = []
    for index, minimum in enumerate(np.asarray(landscape.minima)):
        radius = radii[index].astype(positions.dtype)
        if positions.ndim == 1:
            distance = jnp.abs(positions - float(minimum))
        else:
            offset = positions - jnp.asarray(minimum, positions.dtype)[None]
            distance = jnp.linalg.norm(offset, axis=-1)
        near.append(distance < radius)
    return near


def _fields(landscape: Landscape, positions: jax.Array) -> list[jax.Array]:
    field = landscape.field_of(positions)
    return [field == index for index in range(landscape.num_fields)]


def zero_counters(num_fields: int, num_chains: int) -> Counters:
    """Counters of a new chunk."""
    by_chain = [jnp.zeros((num_fields, num_chains), jnp.int32) for _ in range(3)]
    return Counters(*by_chain, jnp.zeros((num_fields, num_fields), jnp.int32))


@functools.partial(
    program_of_the_host, static_argnames="landscape", donate_argnames="chains"
)
def run_chunk(
    landscape: Landscape,
    process: Process,
    chains: tuple[jax.Array, PyTree, jax.Array],
    regions: Regions,
    num_records: ArrayLike,
    record_every: ArrayLike,
) -> tuple[tuple[jax.Array, PyTree, jax.Array], Counters]:
    """Continues all chains, and counts.

    Args:
      landscape: static.
      process: a pytree.
      chains: positions, state of the process, and label (the last minimum visited).
      regions: what counts as near a minimum.
      num_records: number of records, traced.
      record_every: number of steps between two records, traced.

    Returns:
      The chains after `num_records * record_every` steps, and the counters.
    """
    num_fields, num_chains = landscape.num_fields, chains[0].shape[0]

    def step(_, carry):
        positions, state = carry
        return process.step(landscape, state, positions)

    def count_moves(transitions, old, new):
        return transitions.at[old, new].add((old != new).astype(jnp.int32))

    def record(_, carry):
        (positions, state, label), counters = carry
        # A loop even for one step: otherwise XLA would compute that step again for each
        # counter that reads it. That is why `record_every` is traced.
        positions, state = jax.lax.fori_loop(0, record_every, step, (positions, state))
        near = is_near(landscape, regions.radii, positions)
        new = label
        for index in range(num_fields):
            visits = near[index] & regions.is_landmark[index]
            new = jnp.where(visits, index, new)
        # Moves are rare, and a scatter over all chains is slow.
        transitions = jax.lax.cond(
            jnp.any(new != label),
            count_moves,
            lambda transitions, old, new: transitions,
            counters.transitions,
            label,
            new,
        )
        labels = [new == index for index in range(num_fields)]
        counters = Counters(
            counters.field + _stacked(_fields(landscape, positions)),
            counters.near + _stacked(near),
            counters.label + _stacked(labels),
            transitions,
        )
        return (positions, state, new), counters

    counters = zero_counters(num_fields, num_chains)
    return jax.lax.fori_loop(0, num_records, record, (chains, counters))


def _stacked(indicators: list[jax.Array]) -> jax.Array:
    return jnp.stack(indicators).astype(jnp.int32)


def first_label(landscape: Landscape, regions: Regions, positions: jax.Array):
    """The nearest landmark of each chain: its label at the start. shape=(n,), int32."""
    minima = jnp.asarray(np.asarray(landscape.minima), positions.dtype)
    offset = positions[:, None] - minima[None]
    distance = jnp.abs(offset) if offset.ndim == 2 else jnp.linalg.norm(offset, axis=-1)
    distance = jnp.where(regions.is_landmark[None], distance, jnp.inf)
    return jnp.argmin(distance, axis=1).astype(jnp.int32)
