"""The command `heavytail simulate`."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from heavytail_optax.laboratory.options import (
    DEFAULT_NOISE,
    NoiseOptions,
    check_range,
    parse,
    prepare_directory,
    save_figure,
    table,
)

_SNAPSHOTS = 500


@dataclasses.dataclass(frozen=True)
class SimulateCommand:
    """Show which noise empties sharp minima: the four regimes side by side.

    Many chains run on the paper's landscape of four minima, two of them narrow, with
    heavy or light tails, truncated or not, and without noise. They start evenly at all
    minima; time is counted after the first third of the steps. Only truncated
    heavy-tailed noise leaves the narrow minima and does not come back for long.

    Ends with a table and a picture. The default takes about a minute on two cores.

    Attributes:
      learning_rate: eta, below 4.48e-3: above it gradient descent without any noise is
        unstable at the sharpest minimum, and the picture proves nothing.
      steps: Steps of each chain, rounded up to a multiple of 1,500.
      chains: Chains in each regime.
      seed: Of the noise.
      directory: Where the picture goes.
    """

    noise: NoiseOptions = DEFAULT_NOISE
    learning_rate: float = 1e-3
    steps: int = 1_500_000
    chains: int = 256
    seed: int = 0
    directory: pathlib.Path = pathlib.Path("laboratory")

    def __post_init__(self) -> None:
        check_range(
            "learning_rate", self.learning_rate, "between 0 and .00448", 0.0, 4.48e-3
        )
        check_range("steps", self.steps, "at least 1", 0, 2**31 - 1501)
        check_range("chains", self.chains, "at least 4", 3)
        check_range("seed", self.seed, "at least 0", -1)


def run(arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail simulate` and runs it."""
    command = parse(SimulateCommand, arguments, program)
    try:
        prepare_directory(command.directory)
        _simulate(command)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _simulate(command: SimulateCommand) -> None:
    # These load JAX and Matplotlib, which takes seconds.
    from rich.console import Console

    from heavytail_optax import dynamics, tails
    from heavytail_optax.experiments.report.number_format import (
        format_number,
        format_percent,
    )
    from heavytail_optax.laboratory.regimes import regimes, run_regimes
    from heavytail_optax.laboratory.simulate_figure import draw_regimes

    console = Console()
    noise, eta = command.noise, command.learning_rate
    landscape = dynamics.four_minima()
    chain = dynamics.markov_chain(
        dynamics.exit_rates(
            landscape,
            tail=tails.symmetric_pareto(noise.alpha),
            scale=noise.scale,
            max_norm=noise.max_norm,
        )
    )
    narrow = landscape.widths < 0.5 * landscape.widths.max()
    unit = 3 * _SNAPSHOTS
    num_steps = unit * -(-command.steps // unit)
    results = run_regimes(
        landscape,
        regimes(eta, noise.alpha, noise.scale, noise.max_norm),
        narrow,
        note=lambda name: console.print(f"Running {command.chains} chains: {name}"),
        seed=command.seed,
        num_steps=num_steps,
        num_chains=command.chains,
        num_snapshots=_SNAPSHOTS,
    )
    console.print()
    minima = [f"{minimum:.2f}" for minimum in landscape.minima]
    kinds = ["narrow" if is_narrow else "wide" for is_narrow in narrow]
    console.print(
        table(
            [
                "% of time\naround",
                *(f"{m}\n{kind}" for m, kind in zip(minima, kinds, strict=True)),
                "both\nnarrow",
                "moves in\n1e6 steps",
            ],
            [
                [
                    result.name,
                    *(format_percent(share) for share in result.fields),
                    # Chains that never move tell nothing about an error.
                    format_percent(
                        result.narrow[0], result.narrow[1] if result.moves else None
                    ),
                    format_number(result.moves),
                ]
                for result in results
            ],
        )
    )
    small = noise.scale**noise.alpha * eta ** (noise.alpha - 1.0)
    console.print(f"\nh = H(1/eta)/eta = {small:.3g} for the heavy tails.")
    if chain.narrow:
        theory = chain.occupation(eta)
        first = sum(theory[chain.fields.index(field)] for field in chain.narrow)
        console.print(
            "Theory for heavy tails, truncated: both narrow "
            f"{format_percent(float(first))}% to first order, 0 as h -> 0."
        )
    title = (
        f"eta = {eta:g}, alpha = {noise.alpha:g}, scale = {noise.scale:g}, "
        f"b = {noise.max_norm:g}; {command.chains} chains; narrow fields shaded"
    )
    figure = draw_regimes(landscape, narrow, results, num_steps, title)
    path = save_figure(command.directory, "simulate.png", figure)
    console.print(f"Written: {path}", highlight=False, soft_wrap=True)
