"""Jumps between minima: counted, and beside a Markov chain."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from heavytail_optax import dynamics
from heavytail_optax.laboratory.exit_times import estimated_rate


class JumpRate(NamedTuple):
    """Jumps from one wide minimum to another, in the time unit of the limit chain."""

    origin: int  # index of a field
    target: int  # index of another
    count: int  # how many were seen
    time: float  # at risk
    limit: float  # the generator's entry, for eta -> 0
    finite: float  # the same from the rare-event estimator's rates at this eta

    @property
    def rate(self) -> tuple[float, float, float]:
        """Measured, with the exact 95 % interval for a Poisson count."""
        low = scipy.stats.chi2.ppf(0.025, 2 * self.count) / 2 if self.count else 0.0
        high = scipy.stats.chi2.ppf(0.975, 2 * self.count + 2) / 2
        return self.count / self.time, float(low) / self.time, float(high) / self.time


class JumpShare(NamedTuple):
    """Where the jumps from a field go."""

    origin: int  # index of the field
    counts: np.ndarray  # shape=(K,), jumps to each field
    limit: np.ndarray  # shape=(K,), probabilities q_ij / q_i
    finite: np.ndarray  # shape=(K,), the same at this eta


def poisson_p_value(jumps: Sequence[JumpRate], *, at_finite_rate: bool) -> float:
    """Chi-square of all counts against their expectations."""
    rates = [jump.finite if at_finite_rate else jump.limit for jump in jumps]
    expected = np.asarray(rates) * [jump.time for jump in jumps]
    counts = np.asarray([jump.count for jump in jumps])
    statistic = float(np.sum((counts - expected) ** 2 / expected))
    return float(scipy.stats.chi2.sf(statistic, len(jumps)))


def share_p_value(shares: Sequence[JumpShare], *, at_finite_rate: bool) -> float:
    """Chi-square of where the jumps from each field go, of what the limit allows.

    NaN if no jump was seen from a field that may be left to two others.
    """
    statistic, freedom = 0.0, 0
    for share in shares:
        chances = share.finite if at_finite_rate else share.limit
        possible = share.limit > 0.0
        counts = share.counts[possible]
        if possible.sum() < 2 or counts.sum() == 0:
            continue
        expected = counts.sum() * chances[possible] / chances[possible].sum()
        statistic += float(np.sum((counts - expected) ** 2 / expected))
        freedom += int(possible.sum()) - 1
    return float(scipy.stats.chi2.sf(statistic, freedom)) if freedom else math.nan


def finite_rates(
    rates: dynamics.ExitRates, learning_rate: float, *, seed: int, num_samples: int
) -> dynamics.ExitRates:
    """The rates between fields at one eta by the rare-event estimator."""
    scales = rates.time_scales(learning_rate)
    found = np.zeros_like(rates.rates)
    for field in range(rates.landscape.num_fields):
        estimate = estimated_rate(rates, field, learning_rate, seed, num_samples)
        found[field] = estimate.destinations / scales[field]
    return dataclasses.replace(rates, rates=np.where(rates.rates > 0.0, found, 0.0))


def jump_rates(
    simulation: dynamics.Simulation,
    limit: dynamics.LimitChain,
    finite: dynamics.LimitChain,
    learning_rate: float,
) -> list[JumpRate]:
    """Counts between wide minima beside the generator."""
    unit = limit.time_scale(learning_rate) * simulation.record_every
    times = simulation.label_counts.sum(axis=0) * unit
    return [
        JumpRate(
            origin=origin,
            target=target,
            count=int(simulation.transitions[origin, target]),
            time=float(times[origin]),
            limit=float(limit.generator[i, k]),
            finite=float(finite.generator[i, k]),
        )
        for i, origin in enumerate(limit.wide)
        for k, target in enumerate(limit.wide)
        if i != k
    ]


def jump_shares(
    simulation: dynamics.Simulation,
    limit: dynamics.LimitChain,
    finite: dynamics.LimitChain,
) -> list[JumpShare]:
    """Where the jumps from each field go, beside the theory."""
    counts = simulation.transitions
    return [
        JumpShare(field, counts[field], limit.embedded[field], finite.embedded[field])
        for field in limit.fields
    ]


def last_visits(
    landscape: dynamics.Landscape, wide: Sequence[int], paths: np.ndarray
) -> np.ndarray:
    """Which wide minimum each of several paths visited last; at first the nearest."""
    minima = np.asarray(landscape.minima)[list(wide)]
    distances = np.abs(paths[..., None] - minima)
    is_near = distances < 0.5 * landscape.widths[list(wide)]
    labels = distances.argmin(axis=-1)
    for index in range(1, len(paths)):
        stays = ~is_near[index].any(axis=-1)
        labels[index] = np.where(stays, labels[index - 1], is_near[index].argmax(-1))
    return labels
