"""The command `heavytail markov-chain`: its options. Its work loads Matplotlib."""

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
class MarkovChainCommand(LaboratoryCommand):
    """Measure the jumps between wide minima, with the limiting Markov chain beside them.

    As the learning rate falls, truncated heavy-tailed SGD on the paper's landscape
    becomes a Markov chain on the two wide minima. The command runs chains from the
    stationary law of that chain. It compares the jumps from one wide minimum to the other
    with the generator, and all jumps between neighbouring minima with the probabilities
    of the theory, by chi-square. Learning rates that a simulation can reach are not yet in
    the limit. So the rates of the rare-event estimator at the same eta stand beside.

    The results are two tables and a picture. The default takes about a minute on two
    cores.

    Attributes:
      learning_rate: Learning rate (eta), below 4.48e-3.
      steps: Number of steps of each chain, rounded up to a multiple of 1000. All chains
        run twice.
      chains: Number of chains.
      samples: Number of paths of the estimator from each field.
    """

    learning_rate: Annotated[float, STABLE_RATE] = 1e-3
    steps: Annotated[int, steps_up_to(2**31 - 200_001)] = 4_000_000
    chains: Annotated[int, at_least(2)] = 256
    samples: Annotated[int, at_least(10)] = 30_000


def run(name: str, arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail markov-chain` and runs it."""
    return run_command(MarkovChainCommand, name, arguments, program)
