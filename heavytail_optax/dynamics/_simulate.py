"""Simulates many chains, with streaming statistics in constant memory."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._result_text import short_repr
from heavytail_optax._typing import Key
from heavytail_optax._validation import check_count, is_integer, type_error, value_error
from heavytail_optax.dynamics._chains import (
    MAX_STEPS,
    Regions,
    check_numbers,
    check_resolution,
    first_label,
    run_chunk,
    start_positions,
)
from heavytail_optax.dynamics._landscape import Landscape, check_landscape
from heavytail_optax.dynamics._process import Process

_CHUNK = 2**24  # chain-steps between two updates on the host


class Simulation(NamedTuple):
    """Result of `simulate`, for K fields, n chains and R records of each chain.

    Attributes:
      num_records: R, the number of records of each chain.
      record_every: steps between two records.
      field_counts: records in each field. shape=(n, K), dtype=int64.
      near_counts: records near each minimum. shape=(n, K), dtype=int64.
      label_counts: records during which each landmark was the last one visited: the
        time at risk of leaving it. shape=(n, K), dtype=int64.
      transitions: moves from the last landmark visited to another one, of all chains.
        shape=(K, K), dtype=int64, zero on the diagonal.
      visits: arrivals near each minimum from another one. shape=(K,), dtype=int64.
      positions: positions of the chains at the end. shape=(n,), or (n, d) in R^d.
      snapshots: histogram of the positions at the ends of chunks; None in R^d.
        dtype=int64.
      edges: edges of the bins of `snapshots`; None in R^d.
      paths: positions of the first chains at the start and at the end of every chunk,
        `burn_in` included. shape=(S + 1, num_paths), or (S + 1, num_paths, d) in R^d.
    """

    num_records: int
    record_every: int
    field_counts: np.ndarray
    near_counts: np.ndarray
    label_counts: np.ndarray
    transitions: np.ndarray
    positions: np.ndarray
    snapshots: np.ndarray | None
    edges: np.ndarray | None
    paths: np.ndarray

    __repr__ = short_repr

    @property
    def visits(self) -> np.ndarray:
        return self.transitions.sum(axis=0)

    @property
    def num_chain_steps(self) -> int:
        """The number of counted steps, of all chains together."""
        return self.num_records * self.record_every * self.field_counts.shape[0]


def simulate(
    landscape: Landscape,
    process: Process,
    *,
    key: Key,
    start: npt.ArrayLike,
    num_steps: int,
    num_chains: int = 4096,
    burn_in: int = 0,
    record_every: int = 1,
    radii: npt.ArrayLike | None = None,
    landmarks: Sequence[int] | None = None,
    num_bins: int = 400,
    snapshot_every: int | None = None,
    num_paths: int = 0,
) -> Simulation:
    """Runs many chains on a landscape and counts where they are.

    The chains run in compiled chunks. After each chunk the host adds its 32-bit
    counters to 64-bit ones, so memory does not grow with the number of steps.

    Args:
      landscape: f, on the line or in R^d.
      process: from `sgd_process` or `optax_process`.
      key: an integer seed, a typed key or a legacy key. The same key, number of chains
        and settings give the same chains.
      start: the point where all chains start, or one for each chain.
      num_steps: counted steps of each chain, a multiple of `record_every`.
      num_chains: n; from about 4096 on, the cost per step of a chain no longer falls.
      burn_in: steps of each chain before the counted ones, a multiple of
        `record_every`.
      record_every: number of steps between two records. 10 takes a fifth less time than
        1. Shares of time stay unbiased, but shorter visits may be missed.
      radii: the distance within which a chain is near a minimum: one number, or one for
        each minimum. Default: half the distance to the outside of the field.
      landmarks: indices of the minima whose visits make the jump chain. Default: all. A
        transition is a visit to a landmark other than the last one. So crossing the end
        of a field back and forth is not a transition.
      num_bins: number of bins of the histogram of positions, which is updated at the
        end of each chunk.
      snapshot_every: the largest number of steps in a chunk, a multiple of
        `record_every`. Default: 17 million steps of all chains together.
      num_paths: number of chains whose positions are kept at the end of each chunk.
        Only this part of the result grows with the number of steps.

    Returns:
      A `Simulation`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of its range, or the steps of the process are
        too small for the dtype of the positions.
      FloatingPointError: if chains diverge.

    Example:
      >>> import heavytail_optax as hto
      >>> landscape = hto.dynamics.four_minima()
      >>> process = hto.dynamics.sgd_process(
      ...     1e-3, 0.5, hto.tails.symmetric_pareto(1.2), 0.1
      ... )
      >>> result = hto.dynamics.simulate(
      ...     landscape, process, key=0, start=-0.7, num_steps=1000, num_chains=64
      ... )
      >>> print(result.num_chain_steps, result.field_counts.sum())
      64000 64000
    """
    function = "simulate"
    check_landscape(function, landscape, on_the_line=False)
    if not all(hasattr(process, name) for name in ("init", "step", "take")):
        accepted = "what `sgd_process` or `optax_process` returns"
        raise type_error(function, "process", accepted, process)
    check_key(function, key)
    record_every = check_count(function, "record_every", record_every)
    num_chains = check_count(function, "num_chains", num_chains)
    num_records = _records(function, "num_steps", num_steps, record_every, 1)
    burn_in_records = _records(function, "burn_in", burn_in, record_every, 0)
    if num_steps + burn_in > MAX_STEPS:
        accepted = f"at most {MAX_STEPS} with `burn_in`: take more chains"
        raise value_error(function, "num_steps", accepted, num_steps)
    check_resolution(function, landscape, process)
    regions = Regions(
        jnp.asarray(_checked_radii(function, landscape, radii), float),
        jnp.asarray(_landmarks(function, landscape, landmarks)),
    )
    num_bins = check_count(function, "num_bins", num_bins)
    edges = _edges(landscape, num_bins)
    num_paths = check_count(function, "num_paths", num_paths, 0)
    if num_paths > num_chains:
        accepted = f"at most `num_chains`, which is {num_chains}"
        raise value_error(function, "num_paths", accepted, num_paths)
    longest = max(1, _CHUNK // (num_chains * record_every))
    if snapshot_every is not None:
        longest = _records(function, "snapshot_every", snapshot_every, record_every, 1)
    positions = start_positions(function, landscape, start, num_chains)
    state = process.init(landscape, positions, key=tagged_key(key, function))
    label = first_label(landscape, regions, positions)
    chains = (jnp.array(positions), jax.tree.map(jnp.copy, state), label)
    counts = [np.zeros((num_chains, landscape.num_fields), np.int64) for _ in range(3)]
    transitions = np.zeros((landscape.num_fields,) * 2, np.int64)
    snapshots = np.zeros(num_bins, np.int64)
    paths = [np.asarray(positions[:num_paths])]
    done = -burn_in_records
    while done < num_records:
        goal = 0 if done < 0 else num_records
        size = min(longest, goal - done)
        chains, counters = run_chunk(
            landscape, process, chains, regions, size, record_every
        )
        done += size
        check_numbers(chains[0], (done + burn_in_records) * record_every)
        paths.append(np.asarray(chains[0][:num_paths]))
        if done <= 0:
            continue
        for total, chunk in zip(counts, counters[:3], strict=True):
            total += np.asarray(chunk).T
        transitions += np.asarray(counters.transitions)
        if edges is not None:
            snapshots += np.histogram(np.asarray(chains[0]), edges)[0]
    return Simulation(
        num_records,
        record_every,
        *counts,
        transitions,
        np.asarray(chains[0]),
        None if edges is None else snapshots,
        edges,
        np.stack(paths),
    )


def _records(
    function: str, argument: str, steps: object, record_every: int, least: int
) -> int:
    steps = check_count(function, argument, steps, least)
    if steps % record_every:
        accepted = f"a multiple of `record_every`, which is {record_every}"
        raise value_error(function, argument, accepted, steps)
    return steps // record_every


def _checked_radii(
    function: str, landscape: Landscape, radii: npt.ArrayLike | None
) -> np.ndarray:
    if radii is None:
        return 0.5 * landscape.widths
    accepted = f"a positive number, or {landscape.num_fields} of them"
    given = np.asarray(radii, float)
    if given.shape not in ((), (landscape.num_fields,)) or not np.all(given > 0.0):
        raise value_error(function, "radii", accepted, radii)
    return np.broadcast_to(given, (landscape.num_fields,))


def _landmarks(
    function: str, landscape: Landscape, landmarks: Sequence[int] | None
) -> np.ndarray:
    if landmarks is None:
        return np.ones(landscape.num_fields, bool)
    accepted = f"integers from 0 to {landscape.num_fields - 1}, at least one"
    if not isinstance(landmarks, (Sequence, np.ndarray)) or not all(
        is_integer(index) for index in landmarks
    ):
        raise type_error(function, "landmarks", accepted, landmarks)
    if len(landmarks) == 0 or not all(
        0 <= index < landscape.num_fields for index in landmarks
    ):
        raise value_error(function, "landmarks", accepted, landmarks)
    return np.isin(np.arange(landscape.num_fields), np.asarray(landmarks))


def _edges(landscape: Landscape, num_bins: int) -> np.ndarray | None:
    """Bins over the projection, or over twice the span of minima and finite ends."""
    if landscape.dimension is not None:
        return None
    if landscape.projection is not None:
        return np.linspace(*landscape.projection, num_bins + 1)
    points = np.asarray([*landscape.minima, *landscape.ends])
    points = points[np.isfinite(points)]
    middle = 0.5 * (points.min() + points.max())
    reach = max(points.max() - points.min(), 1.0)
    return np.linspace(middle - reach, middle + reach, num_bins + 1)
