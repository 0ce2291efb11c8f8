"""The four regimes, and plain gradient descent: where each leaves its chains."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from heavytail_optax import dynamics, tails
from heavytail_optax.laboratory.options import SimulateOptions

SNAPSHOTS = 500


class RegimeResult(NamedTuple):
    """What the chains of a regime did."""

    name: str
    steps: int  # of each chain
    narrow: tuple[float, float]  # share of time in narrow fields; its standard error
    fields: np.ndarray  # shape=(K,), share of time in each field
    moves: float  # from one minimum to another, in a million steps of a chain
    path: np.ndarray  # shape=(S + 1,), of a chain that starts in the narrowest field
    snapshots: np.ndarray  # positions of all chains over time, counted by `edges`
    edges: np.ndarray  # of the bins


def regimes(command: SimulateOptions) -> Mapping[str, dynamics.SgdProcess]:
    """Heavy and light tails, with and without truncation, and no noise at all."""
    noise = command.noise
    heavy, light = tails.symmetric_pareto(noise.alpha), tails.gaussian()

    laws = {
        "heavy tails, truncated": (noise.max_norm, heavy, noise.noise_scale),
        "heavy tails": (np.inf, heavy, noise.noise_scale),
        "light tails, truncated": (noise.max_norm, light, noise.noise_scale),
        "light tails": (np.inf, light, noise.noise_scale),
        "gradient descent": (np.inf, light, 0.0),
    }
    eta = command.learning_rate
    return {name: dynamics.sgd_process(eta, *law) for name, law in laws.items()}


def narrow_fields(landscape: dynamics.Landscape) -> np.ndarray:
    """Which fields are narrow: below half the width of the widest."""
    return landscape.widths < 0.5 * landscape.widths.max()


def run_regimes(
    command: SimulateOptions, note: Callable[[str], None]
) -> Iterator[RegimeResult]:
    """Runs chains that start evenly in all fields, and counts in the last two thirds."""
    landscape = dynamics.four_minima()
    narrow = narrow_fields(landscape)
    unit = -(-command.steps // (3 * SNAPSHOTS))
    third = unit * SNAPSHOTS
    for name, process in regimes(command).items():
        note(f"Running {command.chains} chains: {name}")
        found = dynamics.simulate(
            landscape,
            process,
            key=command.noise.seed,
            start=np.resize(np.asarray(landscape.minima), command.chains),
            num_steps=2 * third,
            num_chains=command.chains,
            burn_in=third,
            snapshot_every=unit,
            num_paths=landscape.num_fields,
            num_bins=100,
        )
        share, error = dynamics.occupation(
            found.field_counts[:, narrow].sum(axis=1), found.num_records
        )
        assert found.snapshots is not None and found.edges is not None
        yield RegimeResult(
            name=name,
            steps=3 * third,
            narrow=(float(share), float(error)),
            fields=dynamics.occupation(found.field_counts, found.num_records).share,
            moves=1e6 * found.transitions.sum() / found.num_chain_steps,
            path=found.paths[:, int(np.argmin(landscape.widths))],
            snapshots=found.snapshots,
            edges=found.edges,
        )
