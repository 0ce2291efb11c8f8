"""The four regimes, and plain gradient descent: where each leaves its chains."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from heavytail_optax import dynamics, tails


class Regime(NamedTuple):
    """A process with a name.

    Attributes:
      name: for tables and figures.
      process: what moves the chains.
    """

    name: str
    process: dynamics.SgdProcess


class RegimeResult(NamedTuple):
    """What the chains of a regime did.

    Attributes:
      name: of the regime.
      narrow: share of time in the narrow fields, and its standard error.
      fields: share of time in each field. shape=(K,).
      moves: visits to another minimum than the last one, in a million steps of a chain.
      path: positions of one chain that starts in the narrowest field. shape=(S + 1,).
      snapshots: positions of all chains over time, counted by `edges`.
      edges: of the bins.
    """

    name: str
    narrow: tuple[float, float]
    fields: np.ndarray
    moves: float
    path: np.ndarray
    snapshots: np.ndarray
    edges: np.ndarray


def regimes(
    learning_rate: float, alpha: float, scale: float, max_norm: float
) -> tuple[Regime, ...]:
    """Heavy and light tails, with and without truncation, and no noise at all."""
    heavy, light, infinite = tails.symmetric_pareto(alpha), tails.gaussian(), np.inf
    make = dynamics.sgd_process
    return (
        Regime("heavy tails, truncated", make(learning_rate, max_norm, heavy, scale)),
        Regime("heavy tails", make(learning_rate, infinite, heavy, scale)),
        Regime("light tails, truncated", make(learning_rate, max_norm, light, scale)),
        Regime("light tails", make(learning_rate, infinite, light, scale)),
        Regime("gradient descent", make(learning_rate, infinite, light, 0.0)),
    )


def run_regime(
    landscape: dynamics.Landscape,
    regime: Regime,
    narrow: np.ndarray,
    *,
    seed: int,
    num_steps: int,
    num_chains: int,
    num_snapshots: int,
) -> RegimeResult:
    """Runs chains that start evenly in all fields, and counts in the last two thirds."""
    num_fields = landscape.num_fields
    start = np.resize(np.asarray(landscape.minima), num_chains)
    third = num_steps // 3
    result = dynamics.simulate(
        landscape,
        regime.process,
        key=seed,
        start=start,
        num_steps=2 * third,
        num_chains=num_chains,
        burn_in=third,
        snapshot_every=third // num_snapshots,
        num_paths=num_fields,
        num_bins=100,
    )
    share, error = dynamics.occupation(
        result.field_counts[:, narrow].sum(axis=1), result.num_records
    )
    assert result.snapshots is not None and result.edges is not None
    return RegimeResult(
        regime.name,
        (float(share), float(error)),
        dynamics.occupation(result.field_counts, result.num_records).share,
        1e6 * result.transitions.sum() / result.num_chain_steps,
        result.paths[:, int(np.argmin(landscape.widths))],
        result.snapshots,
        result.edges,
    )


def run_regimes(
    landscape: dynamics.Landscape,
    all_regimes: tuple[Regime, ...],
    narrow: np.ndarray,
    *,
    note: Callable[[str], None],
    seed: int,
    num_steps: int,
    num_chains: int,
    num_snapshots: int = 500,
) -> list[RegimeResult]:
    """`run_regime` for each, telling `note` which one is on."""
    results = []
    for regime in all_regimes:
        note(regime.name)
        results.append(
            run_regime(
                landscape,
                regime,
                narrow,
                seed=seed,
                num_steps=num_steps,
                num_chains=num_chains,
                num_snapshots=num_snapshots,
            )
        )
    return results
