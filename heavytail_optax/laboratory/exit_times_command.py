"""The command `heavytail exit-times`: its options. Its work loads Matplotlib."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from heavytail_optax.experiments.setting_rules import Rule, at_least
from heavytail_optax.laboratory.command import (
    STABLE_RATE,
    LaboratoryCommand,
    run_command,
)

_FIELD = Rule("integers from 0 to 3", lambda value: value in range(4))


@dataclasses.dataclass(frozen=True)
class ExitTimesCommand(LaboratoryCommand):
    """Measure exit times against the learning rate, with the theory beside them.

    Chains of truncated heavy-tailed SGD start at a minimum of the paper's landscape. The
    command measures the mean number of steps until they leave its field. Large learning
    rates are simulated. At smaller ones the rare-event estimator is used, whose cost does
    not grow. If l steps of at most b are needed to leave, theory says that the number of
    steps grows like eta^-(alpha + (l-1)(alpha-1)).

    The results are a table and a picture. The default takes about a minute on two cores.

    Attributes:
      fields: Fields to leave, from 0 to 3. 0 and 2 are narrow, 1 and 3 wide.
      learning_rates: Learning rates (eta) of the simulations, each below 4.48e-3.
      rare_learning_rates: Learning rates of the estimator.
      exits: Number of chains at each learning rate. Each leaves once.
      samples: Number of paths of the estimator.
    """

    fields: Annotated[tuple[int, ...], _FIELD] = (0, 1)
    learning_rates: Annotated[tuple[float, ...], STABLE_RATE] = (1e-3, 5e-4)
    rare_learning_rates: Annotated[tuple[float, ...], STABLE_RATE] = (1e-4, 1e-6, 1e-8)
    exits: Annotated[int, at_least(10)] = 200
    samples: Annotated[int, at_least(10)] = 20_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.fields or not self.learning_rates + self.rare_learning_rates:
            raise ValueError(
                "The `fields` option and one of `learning_rates` and "
                "`rare_learning_rates` must have a value."
            )


def run(name: str, arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail exit-times` and runs it."""
    return run_command(ExitTimesCommand, name, arguments, program)
