"""What the laboratory's commands share: the noise, its rules, and how they run."""

import dataclasses
import importlib
import inspect
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Annotated

from heavytail_optax.experiments.commands.parsing import filled, parse
from heavytail_optax.experiments.setting_rules import (
    POSITIVE_NUMBER,
    Rule,
    at_least,
    check_fields,
)

FROM_1_TO_2 = Rule("a number above 1 and below 2", lambda value: 1.0 < value < 2.0)
STABLE_RATE = Rule(
    "a number above 0 and below .00448", lambda value: 0.0 < value < 4.48e-3
)
"""Above it, gradient descent without noise leaves the sharpest minimum."""


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
class LaboratoryCommand:
    """The options that all commands have.

    Attributes:
      directory: Directory for the picture.
    """

    noise: NoiseOptions = DEFAULT_NOISE
    directory: pathlib.Path = pathlib.Path("laboratory")

    def __post_init__(self) -> None:
        check_fields(self, "option")


def run_command(
    kind: type[LaboratoryCommand], name: str, arguments: Sequence[str], program: str
) -> int:
    """Parses what was typed, then calls `work` of the command's report module."""
    module = f"heavytail_optax.laboratory.{name.replace('-', '_')}_report"
    about = (inspect.getdoc(kind) or "").partition("Attributes:")[0]
    command = parse(kind, f"{program} {name}", arguments, filled(about))
    try:
        _check_directory(command.directory)
        # It loads SciPy and Matplotlib, which --help need not.
        importlib.import_module(module).work(command)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _check_directory(directory: pathlib.Path) -> None:
    """Makes the directory of the picture, before the work that the picture is of."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise OSError(
            f"No picture can be written to {directory}: {error.strerror}. "
            "Give another --directory."
        ) from None
