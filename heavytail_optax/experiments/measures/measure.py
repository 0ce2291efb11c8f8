"""What a measure of flatness is given, and what it gives back.

The command line reads the names and the options of all measures, so neither this module
nor a measure loads Flax.
"""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypeVar

import jax

import heavytail_optax as hto

from ..data.dataset import Split, evenly_spaced
from ..files import replace_file
from ..setting_rules import BETWEEN_0_AND_1, UNSET, at_least, check_fields
from ..settings import Settings

_Result = TypeVar("_Result")

Loss = Callable[[Any, Split], jax.Array]
Arguments = Mapping[str, Any]
Tick = Callable[[int, int], bool]
"""Is called with the number of parts done and of all parts, first with none done; a
measure stops where it returns True."""

LANCZOS: Arguments = MappingProxyType(
    {"num_eigenvalues": 5, "which": "largest", "num_matvecs": 50}
)
"""How the largest eigenvalues of the Hessian are computed."""


@dataclasses.dataclass(frozen=True)
class MeasureOptions:
    """How the measures are computed.

    Attributes:
      images: Number of training images that all is measured on, evenly spaced. By default
        the --measured-images of the run, or all.
      samples: Number of random draws: of the noise on the weights for the expected
        sharpness, of that of each size for the PAC-Bayes sharpness, of vectors for the
        trace. By default the --sharpness-samples of the run.
      target: Fall of the training accuracy that the PAC-Bayes and the maximal sharpness
        look for, as a share of the images (Jiang et al. 2020: 0.1).
      paths: Number of paths out of the minimum for escape, in each of three kinds of
        direction.
      jumps: Number of jumps of a path. Each has the norm b (--max-norm) of the run.
        Where --truncated-share sets that bound, b is 0.25 here.
    """

    images: Annotated[int | None, at_least(1), UNSET] = None
    samples: Annotated[int | None, at_least(2), UNSET] = None
    target: Annotated[float, BETWEEN_0_AND_1] = 0.1
    paths: Annotated[int, at_least(1)] = 8
    jumps: Annotated[int, at_least(1)] = 3

    def __post_init__(self) -> None:
        check_fields(self, "option")

    def images_of(self, settings: Settings) -> int:
        """Number of training images that a run with these settings is measured on."""
        every = settings.data.training_examples
        return min(every, self.images or settings.measuring.measured_images or every)

    def samples_of(self, settings: Settings) -> int:
        """Number of perturbations for a run with these settings."""
        return self.samples or settings.measuring.sharpness_samples


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network after its last step, with the images that it was trained on."""

    loss: Loss  # mean cross-entropy; the same function for all runs of a grid
    error: Loss  # share of the images that are not classified as labelled
    params: Any
    train: Split  # with the labels trained on
    settings: Settings
    key: jax.Array  # of all sampling
    rest: tuple[Any, ...] = ()
    """The other parameters, where `params` are those of a layer: `loss` takes them next."""

    @property
    def args(self) -> tuple[Any, ...]:
        """What the loss takes after the parameters."""
        return (*self.rest, self.train)

    def apply(
        self, function: Callable[..., _Result], *others: Any, **more: Any
    ) -> _Result:
        """A function of `flatness`, of the loss on the training images."""
        arguments = {"key": self.key, "args": self.args, **more}
        return function(self.loss, self.params, *others, **arguments)

    def on_images(self, number: int) -> "TrainedNetwork":
        """The same network with so many of the images."""
        return dataclasses.replace(self, train=evenly_spaced(self.train, number))

    @functools.cached_property
    def top_eigenvalues(self) -> "hto.flatness.HessianEigenvalues":
        """The largest eigenvalues of the Hessian of the loss."""
        return self.apply(hto.flatness.hessian_eigenvalues, **LANCZOS)


class Measurement(NamedTuple):
    """The result of a measure, as plain numbers."""

    scalars: Mapping[str, tuple[float, float | None]] = MappingProxyType({})
    """Name -> value and standard error."""
    curves: Mapping[str, Mapping[str, list[float]]] = MappingProxyType({})
    """Name -> columns of one length."""
    remark: str = ""
    """What a reader of the scalars must know."""


class Measure(NamedTuple):
    """One measure of flatness."""

    name: str
    summary: str
    """For --help."""
    scalars: tuple[str, ...]
    """Names in tables; each is larger where the minimum is sharper."""
    arguments: Callable[[Settings, MeasureOptions], Arguments]
    """All that the numbers depend on besides the run, as JSON keeps it."""
    compute: Callable[[TrainedNetwork, Arguments, Tick], Measurement | None]
    """The measurement; None if it was stopped."""
    is_of_layers: bool = True
    """Whether it can be measured of a layer, the rest of the network held fixed."""


def without_progress(
    compute: Callable[[TrainedNetwork, Arguments], Measurement],
) -> Callable[[TrainedNetwork, Arguments, Tick], Measurement | None]:
    """`compute` for a measure that is done in one part."""

    def in_one_part(
        network: TrainedNetwork, arguments: Arguments, tick: Tick
    ) -> Measurement | None:
        return None if tick(0, 1) else compute(network, arguments)

    return in_one_part


_DAMAGE = ValueError, TypeError, KeyError, AttributeError, RecursionError


class Measured(NamedTuple):
    """A measure of a run."""

    arguments: Arguments
    outcome: Measurement
    seconds: float  # compilation included


def write_record(path: pathlib.Path, record: Mapping[str, Measured]) -> None:
    """Keeps what has been measured, all at once or not at all."""
    values = {
        name: {
            "arguments": dict(measured.arguments),
            "scalars": {
                scalar: {"value": value, "standard_error": error}
                for scalar, (value, error) in measured.outcome.scalars.items()
            },
            "curves": {k: dict(v) for k, v in measured.outcome.curves.items()},
            "remark": measured.outcome.remark,
            "seconds": round(measured.seconds, 1),
        }
        for name, measured in record.items()
    }
    # JSON has no NaN and no infinity: they are null.
    finite = json.loads(json.dumps(values), parse_constant=lambda _: None)
    replace_file(path, json.dumps(finite, allow_nan=False) + "\n")


def read_record(path: pathlib.Path) -> dict[str, Measured]:
    """What was kept; nothing if there is no such file, or it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {name: _measured(entry) for name, entry in values.items()}
    except (FileNotFoundError, *_DAMAGE):
        return {}


def in_words(arguments: Arguments) -> list[str]:
    """Each argument with its value, the same before and after it was written."""
    written = json.loads(json.dumps(dict(arguments)))
    return [f"{name} {value}" for name, value in sorted(written.items())]


def _measured(entry: Mapping[str, Any]) -> Measured:
    scalars = {}
    for name, each in entry["scalars"].items():
        error = each["standard_error"]
        scalars[name] = _number(each["value"]), None if error is None else float(error)
    curves = {
        name: {column: [_number(x) for x in values] for column, values in each.items()}
        for name, each in entry["curves"].items()
    }
    return Measured(
        dict(entry["arguments"]),
        Measurement(scalars, curves, str(entry["remark"])),
        float(entry["seconds"]),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
