"""The command `heavytail markov-chain`."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from heavytail_optax.laboratory.options import (
    DEFAULT_NOISE,
    NoiseOptions,
    check_range,
    parse,
    prepare_directory,
    save_figure,
    table,
    warnings_told,
)

if TYPE_CHECKING:
    from rich.console import Console

    from heavytail_optax.laboratory.jump_chain import JumpRate, JumpShare

_SNAPSHOTS = 1000


@dataclasses.dataclass(frozen=True)
class MarkovChainCommand:
    """Measure the jumps between wide minima, with the limiting Markov chain beside them.

    As the learning rate falls, truncated heavy-tailed SGD on the paper's landscape
    becomes a Markov chain on the two wide minima. Chains run from its stationary law;
    jumps from one wide minimum to the other are counted and compared with the generator,
    and all jumps between neighbouring minima with the probabilities of the theory, by
    chi-square. Learning rates that a simulation can reach are not yet in the limit, so
    the rates of the rare-event estimator at the very same eta stand beside.

    Ends with two tables and a picture. The default takes about a minute on two cores.

    Attributes:
      learning_rate: eta, below 4.48e-3.
      steps: Steps of each chain, rounded up to a multiple of 1,000; run twice.
      chains: Chains.
      samples: Paths of the estimator from each field.
      seed: Of the noise.
      directory: Where the picture goes.
    """

    noise: NoiseOptions = DEFAULT_NOISE
    learning_rate: float = 1e-3
    steps: int = 4_000_000
    chains: int = 256
    samples: int = 30_000
    seed: int = 0
    directory: pathlib.Path = pathlib.Path("laboratory")

    def __post_init__(self) -> None:
        check_range(
            "learning_rate", self.learning_rate, "between 0 and .00448", 0.0, 4.48e-3
        )
        check_range("steps", self.steps, "at least 1", 0, 2**31 - 200_000)
        check_range("chains", self.chains, "at least 2", 1)
        check_range("samples", self.samples, "at least 10", 9)
        check_range("seed", self.seed, "at least 0", -1)


def run(arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail markov-chain` and runs it."""
    command = parse(MarkovChainCommand, arguments, program)
    try:
        prepare_directory(command.directory)
        _measure(command)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _measure(command: MarkovChainCommand) -> None:
    # These load JAX, SciPy and Matplotlib, which takes seconds.
    import numpy as np
    from rich.console import Console

    from heavytail_optax import dynamics
    from heavytail_optax.laboratory.exit_points import default_rates
    from heavytail_optax.laboratory.jump_chain import (
        finite_rates,
        jump_rates,
        jump_shares,
        last_visits,
    )
    from heavytail_optax.laboratory.markov_chain_figure import draw_chain

    console, noise, eta = Console(), command.noise, command.learning_rate
    rates = default_rates(noise.alpha, noise.scale, noise.max_norm)
    limit = dynamics.markov_chain(rates)
    if len(limit.wide) < 2:
        raise ValueError(
            f"At b = {noise.max_norm:g} there are fewer than two wide minima to jump "
            "between: take b between 0.4497 and 0.6007."
        )
    for note in (*limit.notes, *rates.conditions(eta)):
        console.print(note, highlight=False)
    console.print(f"Estimating the rates at eta = {eta:g}")
    with warnings_told(lambda text: console.print(text, highlight=False)):
        estimated = finite_rates(
            rates, eta, seed=command.seed, num_samples=command.samples
        )
    finite = dynamics.markov_chain(estimated)
    landscape, steps = rates.landscape, 1000 * -(-command.steps // 1000)
    process = dynamics.sgd_process(eta, noise.max_norm, rates.tail, noise.scale)
    # Evenly spaced over the stationary law; what is narrow fills up in the burn-in.
    quantiles = (np.arange(command.chains) + 0.5) / command.chains
    own = np.searchsorted(np.cumsum(limit.stationary), quantiles)
    start = np.asarray(landscape.minima)[np.asarray(limit.wide)[own]]
    simulations = []
    for name, landmarks in (("wide", limit.wide), ("all", limit.fields)):
        console.print(
            f"Running {command.chains} chains, counting jumps of {name} minima"
        )
        simulations.append(
            dynamics.simulate(
                landscape,
                process,
                key=command.seed + len(simulations),
                start=start,
                num_steps=steps,
                num_chains=command.chains,
                burn_in=100_000,
                landmarks=landmarks,
                snapshot_every=max(100, steps // _SNAPSHOTS),
                num_paths=command.chains,
            )
        )
    jumps = jump_rates(simulations[0], limit, finite, eta)
    shares = jump_shares(simulations[1], limit, finite)
    _report(console, jumps, shares)
    title = (
        f"eta = {eta:g}, alpha = {noise.alpha:g}, scale = {noise.scale:g}, "
        f"b = {noise.max_norm:g}; {command.chains} chains of {steps:,} steps"
    )
    paths = simulations[0].paths
    labels = last_visits(landscape, limit.wide, paths)
    most = int(np.argmax(np.sum(labels[1:] != labels[:-1], axis=0)))
    duration = (steps + 100_000) * limit.time_scale(eta)
    figure = draw_chain(
        *(landscape, limit.wide, paths[:, most], duration, jumps, shares, title)
    )
    path = save_figure(command.directory, "markov_chain.png", figure)
    console.print(f"Written: {path}", highlight=False, soft_wrap=True)


def _report(
    console: "Console", jumps: list["JumpRate"], shares: list["JumpShare"]
) -> None:
    from heavytail_optax.experiments.report.number_format import format_number
    from heavytail_optax.laboratory.jump_chain import poisson_p_value, share_p_value

    rows = []
    for jump in jumps:
        rate, low, high = (format_number(each) for each in jump.rate)
        rows.append(
            [
                f"{jump.origin} to {jump.target}",
                f"{jump.count}",
                f"{rate} [{low}, {high}]",
                format_number(jump.finite),
                format_number(jump.limit),
            ]
        )
    headings = ["between wide\nminima", "jumps", "rate, 95% interval"]
    console.print()
    console.print(table([*headings, "estimator,\nthis eta", "theory,\neta -> 0"], rows))
    _print_p_values(
        console,
        poisson_p_value(jumps, at_finite_rate=True),
        poisson_p_value(jumps, at_finite_rate=False),
    )
    rows = [
        [
            f"{share.origin} to {target}",
            f"{share.counts[target]}",
            f"{share.counts[target] / max(1, share.counts.sum()):.3f}",
            f"{share.finite[target]:.3f}",
            f"{share.limit[target]:.3f}",
        ]
        for share in shares
        for target in range(len(share.counts))
        if share.limit[target] > 0.0 or share.counts[target]
    ]
    headings = ["between all\nminima", "jumps", "share from\nthat field"]
    console.print(table([*headings, "estimator,\nthis eta", "theory,\neta -> 0"], rows))
    _print_p_values(
        console,
        share_p_value(shares, at_finite_rate=True),
        share_p_value(shares, at_finite_rate=False),
    )


def _print_p_values(console: "Console", finite: float, limit: float) -> None:
    console.print(
        f"Chi-square: p = {finite:.3f} against the estimator at this eta, "
        f"{limit:.3f} against the limit.\n"
    )
