"""The command `heavytail simulate`: its options. Its work loads Matplotlib."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from heavytail_optax.experiments.setting_rules import at_least
from heavytail_optax.laboratory.command import (
    STABLE_RATE,
    LaboratoryCommand,
    run_command,
    steps_up_to,
)


@dataclasses.dataclass(frozen=True)
class SimulateCommand(LaboratoryCommand):
    """Show which noise empties sharp minima: the four regimes side by side.

    Many chains run on the paper's landscape of four minima, two of them narrow: with heavy
    or light tails, truncated or not, and without noise. They start evenly at all minima.
    Time is counted after the first third of the steps. Only truncated heavy-tailed noise
    leaves the narrow minima and does not come back for long.

    The results are a table and a picture. The default takes about a minute on two cores.

    Attributes:
      learning_rate: Learning rate (eta), below 4.48e-3. Above it, gradient descent
        without noise leaves the sharpest minimum, and the picture proves nothing.
      steps: Number of steps of each chain, rounded up to a multiple of 1500.
      chains: Number of chains in each regime.
    """

    learning_rate: Annotated[float, STABLE_RATE] = 1e-3
    steps: Annotated[int, steps_up_to(2**31 - 1502)] = 1_500_000
    chains: Annotated[int, at_least(4)] = 256


def run(name: str, arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail simulate` and runs it."""
    return run_command(SimulateCommand, name, arguments, program)
