"""Jumps between minima: counted, and beside a Markov chain."""

import dataclasses
from typing import NamedTuple

import numpy as np
import scipy.stats

from heavytail_optax import dynamics


class JumpRate(NamedTuple):
    """Jumps from one wide minimum to another, in the time unit of the limit chain.

    Attributes:
      origin: index of a field.
      target: index of another.
      count: how many were seen.
      time: at risk, in the chain's unit.
      limit: the generator's entry, for eta -> 0.
      finite: the same from the rare-event estimator's rates at this eta.
    """

    origin: int
    target: int
    count: int
    time: float
    limit: float
    finite: float

    @property
    def rate(self) -> tuple[float, float, float]:
        """Measured, with the exact 95 % interval for a Poisson count."""
        low = scipy.stats.chi2.ppf(0.025, 2 * self.count) / 2 if self.count else 0.0
        high = scipy.stats.chi2.ppf(0.975, 2 * self.count + 2) / 2
        return tuple(float(each) / self.time for each in (self.count, low, high))


class JumpShare(NamedTuple):
    """Where the jumps from a field go.

    Attributes:
      origin: index of a field.
      counts: jumps to each field. shape=(K,).
      limit: probabilities `q_ij / q_i`. shape=(K,).
      finite: the same at this eta. shape=(K,).
    """

    origin: int
    counts: np.ndarray
    limit: np.ndarray
    finite: np.ndarray


def poisson_p_value(jumps: list[JumpRate], *, at_finite_rate: bool) -> float:
    """Chi-square of all counts against their expectations."""
    expected = np.asarray(
        [(j.finite if at_finite_rate else j.limit) * j.time for j in jumps]
    )
    counts = np.asarray([jump.count for jump in jumps])
    statistic = float(np.sum((counts - expected) ** 2 / expected))
    return float(scipy.stats.chi2.sf(statistic, len(jumps)))


def share_p_value(shares: list[JumpShare], *, at_finite_rate: bool) -> float:
    """Chi-square of where the jumps go, given how many there are from each field.

    Targets that have probability 0 in the limit are left out.
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
    return float(scipy.stats.chi2.sf(statistic, freedom)) if freedom else 1.0


def finite_rates(
    rates: dynamics.ExitRates, learning_rate: float, *, seed: int, num_samples: int
) -> dynamics.ExitRates:
    """The rates between fields at one eta by the rare-event estimator."""
    scales = rates.time_scales(learning_rate)
    found = np.zeros_like(rates.rates)
    for field in range(rates.landscape.num_fields):
        estimate = dynamics.rare_exit_rate(
            rates.landscape,
            field,
            key=seed,
            tail=rates.tail,
            scale=rates.scale,
            learning_rate=learning_rate,
            max_norm=rates.max_norm,
            num_samples=num_samples,
        )
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
            *(origin, target, int(simulation.transitions[origin, target])),
            *(float(times[origin]), float(limit.generator[i, k])),
            float(finite.generator[i, k]),
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
    return [
        JumpShare(
            *(field, simulation.transitions[field]),
            *(limit.embedded[field], finite.embedded[field]),
        )
        for field in limit.fields
    ]


def last_visits(
    landscape: dynamics.Landscape, wide: tuple[int, ...], paths: np.ndarray
) -> np.ndarray:
    """Which wide minimum each of several paths visited last, as far as they show it.

    Example:
      >>> four = dynamics.four_minima()
      >>> paths = np.array([[-0.7], [0.5], [-0.6], [1.3], [-1.5]])
      >>> last_visits(four, (1, 3), paths)[:, 0].tolist()
      [0, 0, 0, 1, 1]
    """
    minima = np.asarray(landscape.minima)[list(wide)]
    distances = np.abs(paths[..., None] - minima)
    is_near = distances < 0.5 * landscape.widths[list(wide)]
    labels = distances.argmin(axis=-1)
    for index in range(1, len(paths)):
        stays = ~is_near[index].any(axis=-1)
        labels[index] = np.where(
            stays, labels[index - 1], is_near[index].argmax(axis=-1)
        )
    return labels
