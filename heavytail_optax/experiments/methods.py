"""The methods, what each is made of, and their colours. Data only.

`batches` and `steps` build the steps of a method from these values.
"""

import dataclasses
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

MethodName = Literal[
    "sgd-large-batch",
    "sgd",
    "sgd-truncated",
    "inflated",
    "independent",
    "shared",
    "balanced-untruncated",
    "balanced",
    "truncated-heavy-tailed-sgd",
    "sam",
    "f-sam",
    "msam",
    "sgd-averaged",
]
METHOD_NAMES: tuple[MethodName, ...] = typing.get_args(MethodName)

BatchName = Literal["small", "second-small", "large"]
Scheme = Literal["independent", "shared", "balanced"]
Climb = Literal["gradient", "gradient-noise", "momentum"]


@dataclasses.dataclass(frozen=True)
class Method:
    """What a step of a method is made of."""

    name: MethodName  # on the command line and in the run's directory
    paper_name: str | None  # in the tables of Wang, Oh and Rhee
    summary: str
    """One line for the help."""
    colour: str
    """In all pictures: Okabe and Ito's for colour-blind readers, a grey, four more."""
    batches: tuple[BatchName, ...] = ("small",)
    """What its gradient is computed on, in the order in which
    `tail_inflated_value_and_grad` takes them. The loss in the log is that of the first."""
    scheme: Scheme | None = None  # of the tail inflation, None for the plain gradient
    draws_noise: bool = False  # adds noise from a random number generator
    truncates: bool = False  # bounds the norm of the update
    climbs: Climb | None = None
    """Along what it goes a short way, and takes its gradient there. For all but momentum
    every batch is computed twice."""
    averages: bool = False  # takes the mean of the weights of the last steps

    @property
    def label(self) -> str:
        """The name with that of the paper's tables, for people to read."""
        return f"{self.name} ({self.paper_name})" if self.paper_name else self.name

    @property
    def least_batch_size(self) -> int:
        """Images that a small batch needs: two, where it is split into halves."""
        return 2 if self.scheme == "balanced" else 1

    @property
    def without_effect(self) -> frozenset[str]:
        """The settings that change none of its steps, nor what is measured of its runs."""
        parts = {
            "inflation_scale inflation_law inflate_above": self.scheme is not None,
            "large_batch_size": "large" in self.batches,
            "noise_scale direction": self.draws_noise,
            "truncated_share": self.truncates,
            "cooldown": self.is_noisy,
            "sam_radius": self.climbs is not None,
            "gradient_average": self.climbs == "gradient-noise",
            "momentum": self.climbs == "momentum",
            "averaged_share": self.averages,
        }
        unused = [names.split() for names, is_used in parts.items() if not is_used]
        return frozenset(name for names in unused for name in names)

    @property
    def passes(self) -> int:
        """How often a step computes each of its batches."""
        return 1 if self.climbs in (None, "momentum") else 2

    @property
    def is_noisy(self) -> bool:
        """Whether there is noise, which the cool-down turns off."""
        return self.scheme is not None or self.draws_noise


_INDEPENDENT: tuple[BatchName, ...] = ("small", "second-small", "large")

_METHODS = (
    Method(
        "sgd-large-batch",
        "LB",
        "the gradient of a large batch",
        "#000000",
        batches=("large",),
    ),
    Method("sgd", "SB", "plain SGD: the gradient of a small batch", "#0072B2"),
    Method(
        "sgd-truncated",
        "SB+Clip",
        "the same, updates cut at max-norm",
        "#56B4E9",
        truncates=True,
    ),
    Method(
        "inflated",
        "SB+Noise",
        "SB + Z (SB* - LB) with SB* a second small batch; updates not cut, may diverge",
        "#E69F00",
        batches=_INDEPENDENT,
        scheme="independent",
    ),
    Method(
        "independent",
        "Our 1",
        "the same, updates cut at max-norm",
        "#CC79A7",
        batches=_INDEPENDENT,
        scheme="independent",
        truncates=True,
    ),
    Method(
        "shared",
        "Our 2",
        "SB + Z (SB - LB), updates cut at max-norm",
        "#8C8C8C",
        batches=("small", "large"),
        scheme="shared",
        truncates=True,
    ),
    Method(
        "balanced-untruncated",
        None,
        "SB + Z (A - B)/2 with A and B random halves of SB; not cut, may diverge",
        "#F0C808",
        scheme="balanced",
    ),
    Method(
        "balanced",
        None,
        "the same, updates cut at max-norm; costs what SGD does",
        "#D55E00",
        scheme="balanced",
        truncates=True,
    ),
    Method(
        "truncated-heavy-tailed-sgd",
        None,
        "SB + noise from a random number generator, updates cut at max-norm",
        "#009E73",
        draws_noise=True,
        truncates=True,
    ),
    Method(
        "sam",
        None,
        "sharpness-aware minimisation: SB at sam-radius uphill; costs two SGD steps",
        "#5B2A86",
        climbs="gradient",
    ),
    Method(
        "f-sam",
        None,
        "friendly SAM: as sam, but uphill along the noise of the gradient alone",
        "#E7298A",
        climbs="gradient-noise",
    ),
    Method(
        "msam",
        None,
        "momentum SAM: SGD with momentum, its gradient at sam-radius along that; costs SGD",
        "#66A61E",
        climbs="momentum",
    ),
    Method(
        "sgd-averaged",
        None,
        "plain SGD, and in the last step to the mean of the last weights",
        "#7A4B1E",
        averages=True,
    ),
)

METHODS: Mapping[MethodName, Method] = MappingProxyType(
    {method.name: method for method in _METHODS}
)
