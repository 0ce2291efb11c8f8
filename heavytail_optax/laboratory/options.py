"""The options of each command, with their help. Nothing that takes long to load."""

import dataclasses
import pathlib
from typing import Annotated

from heavytail_optax.experiments.commands.parsing import NoCache
from heavytail_optax.experiments.setting_rules import (
    POSITIVE_NUMBER,
    Rule,
    at_least,
    check_fields,
)

FROM_1_TO_2 = Rule("a number above 1 and below 2", lambda value: 1.0 < value < 2.0)
STABLE_RATE = Rule(
    "a number above 0 and below 0.00448", lambda value: 0.0 < value < 4.48e-3
)
"""Above it, gradient descent without noise leaves the sharpest minimum."""
_FIELD = Rule("integers from 0 to 3", lambda value: value in range(4))
_DEFAULTS = {"exits": 200, "samples": 20_000}


def steps_up_to(largest: int) -> Rule:
    """A rule for a number of steps."""
    steps = range(1, largest + 1)
    return Rule(f"an integer from 1 to {largest}", lambda value: value in steps)


@dataclasses.dataclass(frozen=True)
class NoiseOptions:
    """The noise and its truncation.

    Attributes:
      alpha: Tail index of the noise, between 1 and 2. Its law is that of a random sign
        times Pareto.
      noise_scale: Scale of the noise in the gradient. Smaller is closer to the theory's
        limit, and slower.
      max_norm: The longest step, b. Between 0.4497 and 0.6007 it takes one such step to
        leave a narrow minimum and two to leave a wide one.
      seed: Seed of the noise.
    """

    alpha: Annotated[float, FROM_1_TO_2] = 1.2
    noise_scale: Annotated[float, POSITIVE_NUMBER] = 0.1
    max_norm: Annotated[float, POSITIVE_NUMBER] = 0.5
    seed: Annotated[int, at_least(0)] = 0

    def __post_init__(self) -> None:
        check_fields(self, "option")

    def __str__(self) -> str:
        scale = f"scale = {self.noise_scale:g}"
        return f"alpha = {self.alpha:g}, {scale}, b = {self.max_norm:g}"


DEFAULT_NOISE = NoiseOptions()


@dataclasses.dataclass(frozen=True)
class LaboratoryOptions:
    """The options that all commands have.

    Attributes:
      directory: Directory for the picture. Earlier pictures stay: the next ones are
        numbered.
    """

    noise: NoiseOptions = DEFAULT_NOISE
    directory: pathlib.Path = pathlib.Path("laboratory")
    no_cache: NoCache = False

    def __post_init__(self) -> None:
        check_fields(self, "option")


@dataclasses.dataclass(frozen=True)
class SimulateOptions(LaboratoryOptions):
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


@dataclasses.dataclass(frozen=True)
class ExitTimesOptions(LaboratoryOptions):
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
    exits: Annotated[int, at_least(10)] = _DEFAULTS["exits"]
    samples: Annotated[int, at_least(10)] = _DEFAULTS["samples"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.fields or not self.learning_rates + self.rare_learning_rates:
            raise ValueError(
                "The `fields` option and one of `learning_rates` and "
                "`rare_learning_rates` must have a value."
            )
        for rates, name in (
            ("learning_rates", "exits"),
            ("rare_learning_rates", "samples"),
        ):
            if not getattr(self, rates) and getattr(self, name) != _DEFAULTS[name]:
                raise ValueError(f"`{name}`: only with `{rates}`.")


@dataclasses.dataclass(frozen=True)
class MarkovChainOptions(LaboratoryOptions):
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
