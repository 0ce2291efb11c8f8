"""First exits from an attraction field, by direct simulation."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._result_text import short_repr
from heavytail_optax._typing import Key, PyTree
from heavytail_optax._validation import check_count, type_error, value_error
from heavytail_optax._wide_vectors import program_of_the_host
from heavytail_optax.dynamics._chains import (
    MAX_STEPS,
    check_numbers,
    check_resolution,
    start_positions,
)
from heavytail_optax.dynamics._landscape import (
    Landscape,
    check_field,
    check_landscape,
)
from heavytail_optax.dynamics._process import Process

_FIRST_CHUNK = 256
_LAST_CHUNK = 2**16
_FEWEST_CHAINS = 32  # fewer chains cost as much per step


class FirstExits(NamedTuple):
    """Result of `first_exit_times`, for n chains.

    Attributes:
      times: number of steps until the chain left the field, that step included;
        `max_steps` for a chain that had not left by then. shape=(n,), dtype=int64.
      is_censored: whether a chain had not left. shape=(n,), bool.
      destinations: index of the field that a chain moved to. -1 and, on the line, K are
        outside all fields. A censored chain has the field itself. shape=(n,),
        dtype=int64.
      max_steps: the limit.
    """

    times: np.ndarray
    is_censored: np.ndarray
    destinations: np.ndarray
    max_steps: int

    __repr__ = short_repr

    @property
    def num_exits(self) -> int:
        return int(np.sum(~self.is_censored))

    @property
    def mean(self) -> float:
        """Mean exit time in steps: the time at risk over the number of exits.

        Without censoring, this is the plain mean. With censoring, it is the maximum
        likelihood estimate for exponential times; infinite if no chain has left.
        """
        if self.num_exits == 0:
            return float("inf")
        return float(np.sum(self.times)) / self.num_exits

    @property
    def standard_error(self) -> float:
        """That of `mean`, for exponential times: `mean` over the root of the exits."""
        if self.num_exits == 0:
            return float("inf")
        return self.mean / float(np.sqrt(self.num_exits))

    def destination_shares(self, num_fields: int) -> np.ndarray:
        """The share of the exits that led to each field. shape=(num_fields,)."""
        arrived = self.destinations[~self.is_censored]
        counts = [np.sum(arrived == index) for index in range(num_fields)]
        return np.asarray(counts, float) / max(1, self.num_exits)


@functools.partial(
    program_of_the_host,
    static_argnames=("landscape", "field"),
    donate_argnames="chains",
)
def _run_until_exit(
    landscape: Landscape,
    process: Process,
    field: int,
    chains: tuple[jax.Array, PyTree],
    num_steps: ArrayLike,
) -> tuple[tuple[jax.Array, PyTree], jax.Array, jax.Array]:
    """Steps every chain until it leaves the field, then holds it there.

    Returns:
      Positions and state, the steps that each chain took in this chunk, and the fields
      that they are in.
    """

    def step(_, carry):
        positions, state, steps = carry
        is_inside = landscape.field_of(positions) == field
        moved, state = process.step(landscape, state, positions)
        held = is_inside if positions.ndim == 1 else is_inside[:, None]
        positions = jnp.where(held, moved, positions)
        return positions, state, steps + is_inside.astype(jnp.int32)

    steps = jnp.zeros(chains[0].shape[0], jnp.int32)
    positions, state, steps = jax.lax.fori_loop(0, num_steps, step, (*chains, steps))
    return (positions, state), steps, landscape.field_of(positions)


def first_exit_times(
    landscape: Landscape,
    process: Process,
    field: int,
    *,
    key: Key,
    num_exits: int = 4096,
    max_steps: int,
    start: npt.ArrayLike | None = None,
) -> FirstExits:
    r"""Simulates how long chains stay in an attraction field.

    .. math:: \tau = \min\{t \ge 1 : X_t \notin \Omega_i\}.

    Every chain runs until it leaves or has taken `max_steps`. Chains that have not left
    by then are reported as censored, never dropped, so the mean has no bias towards
    short times. Finished chains are removed as soon as they are half of all.

    Args:
      landscape: f, on the line or in R^d.
      process: from `sgd_process` or `optax_process`.
      field: the index of the field.
      key: an integer seed, a typed key or a legacy key.
      num_exits: number of chains; each gives one exit.
      max_steps: the limit for each chain.
      start: the point where all chains start, or one point for each chain, inside the
        field. Default: its minimum.

    Returns:
      A `FirstExits`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of its range, a start is outside the field, or
        the steps of the process are too small for the dtype of the positions.
      FloatingPointError: if chains diverge.

    Example:
      >>> import heavytail_optax as hto
      >>> exits = hto.dynamics.first_exit_times(
      ...     hto.dynamics.quadratic(1.0, 0.3, 0.4),
      ...     hto.dynamics.sgd_process(1e-2, 0.5, hto.tails.symmetric_pareto(1.5), 0.5),
      ...     0,
      ...     key=0,
      ...     num_exits=100,
      ...     max_steps=10_000,
      ... )
      >>> exits.num_exits, bool(50 < exits.mean < 500)
      (100, True)
    """
    function = "first_exit_times"
    check_landscape(function, landscape, on_the_line=False)
    if not all(hasattr(process, name) for name in ("init", "step", "take")):
        accepted = "what `sgd_process` or `optax_process` returns"
        raise type_error(function, "process", accepted, process)
    field = check_field(function, landscape, field)
    check_key(function, key)
    num_exits = check_count(function, "num_exits", num_exits)
    max_steps = check_count(function, "max_steps", max_steps)
    if max_steps > MAX_STEPS:
        raise value_error(function, "max_steps", f"at most {MAX_STEPS}", max_steps)
    check_resolution(function, landscape, process)
    start = landscape.minima[field] if start is None else start
    positions = jnp.array(start_positions(function, landscape, start, num_exits))
    if not bool(jnp.all(landscape.field_of(positions) == field)):
        raise value_error(function, "start", f"in field {field}", start)
    state = process.init(landscape, positions, key=tagged_key(key, function))
    chains = (positions, jax.tree.map(jnp.copy, state))
    times = np.zeros(num_exits, np.int64)
    destinations = np.full(num_exits, field)
    running = np.arange(num_exits)
    taken = 0
    while taken < max_steps:
        size = min(max(_FIRST_CHUNK, taken // 8), _LAST_CHUNK, max_steps - taken)
        chains, steps, fields = _run_until_exit(landscape, process, field, chains, size)
        taken += size
        check_numbers(chains[0], taken)
        times[running] += np.asarray(steps)
        destinations[running] = np.asarray(fields)
        is_inside = np.asarray(fields) == field
        if not is_inside.any():
            break
        keep = np.flatnonzero(is_inside)
        lanes = max(_FEWEST_CHAINS, 2 ** int(np.ceil(np.log2(keep.size))))
        if lanes < running.size:
            # Finished chains pad to a power of two, so that few sizes are compiled.
            done = np.flatnonzero(~is_inside)[: lanes - keep.size]
            kept = np.sort(np.concatenate([keep, done]))
            chains = (chains[0][kept], process.take(chains[1], jnp.asarray(kept)))
            running = running[kept]
    return FirstExits(times, destinations == field, destinations, max_steps)


def exponential_p_value(
    times: npt.ArrayLike | FirstExits, *, seed: int = 0, num_draws: int = 2000
) -> float:
    r"""Tests whether positive times are exponential with an unknown mean.

    The statistic is that of Kolmogorov and Smirnov, against the exponential law with
    the sample's own mean. Its law under the hypothesis comes from `num_draws` simulated
    exponential samples of the same size. (This is Lilliefors' test; it is exact up to
    the simulation error.)

    Args:
      times: the sample, at least 10 positive numbers, none of them censored. A
        `FirstExits` with censored times is refused.
      seed: seed of the draws.
      num_draws: the p-value is a multiple of `1 / (num_draws + 1)`.

    Returns:
      The p-value.

    Raises:
      TypeError: if `times` is not an array of numbers.
      ValueError: if there are too few, one is not positive, or some are censored.

    Example:
      >>> import numpy as np, heavytail_optax as hto
      >>> rng = np.random.default_rng(0)
      >>> hto.dynamics.exponential_p_value(rng.exponential(size=500)) > 0.01
      True
      >>> hto.dynamics.exponential_p_value(rng.uniform(size=500)) < 0.001
      True

    References:
      Lilliefors, "On the Kolmogorov-Smirnov test for the exponential distribution with
      mean unknown", JASA 64 (1969).
    """
    function = "exponential_p_value"
    seed = check_count(function, "seed", seed, 0)
    num_draws = check_count(function, "num_draws", num_draws)
    if isinstance(times, FirstExits):
        if times.is_censored.any():
            accepted = "without censored times: raise `max_steps`"
            raise value_error(function, "times", accepted, f"{times.num_exits} exits")
        times = times.times
    accepted = "at least 10 positive numbers"
    try:
        sample = np.asarray(times, float)
    except (TypeError, ValueError):
        raise type_error(function, "times", accepted, times) from None
    if sample.ndim != 1 or sample.size < 10 or not np.all(sample > 0.0):
        raise value_error(function, "times", accepted, times)
    rng = np.random.default_rng(seed)
    observed = _distance_from_exponential(sample)
    drawn = [
        _distance_from_exponential(rng.standard_exponential(sample.size))
        for _ in range(num_draws)
    ]
    return (1 + int(np.sum(np.asarray(drawn) >= observed))) / (num_draws + 1)


def _distance_from_exponential(sample: np.ndarray) -> float:
    values = -np.expm1(-np.sort(sample) / sample.mean())
    ranks = np.arange(sample.size + 1) / sample.size
    return float(max(np.max(ranks[1:] - values), np.max(values - ranks[:-1])))
