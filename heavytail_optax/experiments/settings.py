"""All the numbers of a training job, in one frozen dataclass.

The dataclass is the Python API, the schema of the command line and, through its
docstring, the help text.
"""

import dataclasses
import math
import numbers
import typing
from collections.abc import Mapping
from typing import Any, Literal

MethodName = Literal["sgd", "truncated-heavy-tailed-sgd"]
METHOD_NAMES: tuple[MethodName, ...] = typing.get_args(MethodName)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained, on what, how and for how long.

    Every setting has a default in each preset, and so none here.

    Attributes:
      methods: Train with these, one after the other, from the same initial weights and
        through the same batches: sgd ("SB" in the paper) and truncated-heavy-tailed-sgd
        (heavy-tailed noise on the gradient, updates cut at max-norm).
      data: Images: digits (1,797 handwritten digits that come with scikit-learn).
      image_size: Height and width that the images are resized to.
      clean_examples: The first images of the data set, trained on with their label.
      corrupted_examples: The images after those, trained on with a label drawn at
        random from all classes. All images after these are for testing.
      model: Network: lenet (11,330 parameters on images of 28x28).
      initialisation: Initial weights: he (normal, variance 2/fan-in) or
        truncated-normal (standard deviation 0.02, cut at two of them).
      steps: Number of updates, for each method.
      batch_size: Images a step, drawn without replacement, anew in each step.
      learning_rate: Factor on the gradient and its noise (eta).
      alpha: Tail index of the noise Z: P(|Z| > x) falls like x^-alpha.
      scale: Factor on the noise that is added to the gradient.
      direction: Where large jumps point: elementwise (a draw for each weight, so along
        an axis) or isotropic (one draw for all, in a uniformly random direction).
      max_norm: Largest norm of an update over all weights, learning rate included (b).
      cooldown: Share of the steps, at the end, that have no noise.
      seed: Sets the random labels, the initial weights, the batches and the noise.
      eval_every: Steps from one evaluation to the next; each saves a checkpoint.

    Raises:
      ValueError: if a value is not accepted, naming the setting and the value.
      TypeError: if a value is of the wrong type.

    Example:
      >>> import dataclasses
      >>> from heavytail_optax.experiments.presets import PRESETS
      >>> settings = PRESETS["corrupted-digits"].settings
      >>> dataclasses.replace(settings, batch_size=0)
      Traceback (most recent call last):
      ...
      ValueError: The `batch_size` setting must be a positive integer. Got 0 instead.
    """

    methods: tuple[MethodName, ...]
    data: Literal["digits"]
    image_size: int
    clean_examples: int
    corrupted_examples: int
    model: Literal["lenet"]
    initialisation: Literal["he", "truncated-normal"]
    steps: int
    batch_size: int
    learning_rate: float
    alpha: float
    scale: float
    direction: Literal["elementwise", "isotropic"]
    max_norm: float
    cooldown: float
    seed: int
    eval_every: int

    def __post_init__(self) -> None:
        for name, accepted, is_valid in _RULES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise TypeError(_message(name, accepted, value))
            if not is_valid(value):
                raise ValueError(_message(name, accepted, value))
        for field in dataclasses.fields(self):
            if typing.get_origin(field.type) is Literal:
                _check_choice(field.name, getattr(self, field.name), field.type)
        if not isinstance(self.methods, tuple) or not self.methods:
            accepted = "a tuple of one or more names of methods"
            raise ValueError(_message("methods", accepted, self.methods))
        for method in self.methods:
            _check_choice("methods", method, MethodName)
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(_message("methods", "without repetition", self.methods))
        if self.batch_size > self.training_examples:
            accepted = f"at most the {self.training_examples} training images"
            raise ValueError(_message("batch_size", accepted, self.batch_size))

    @property
    def training_examples(self) -> int:
        """Number of training images, random labels included."""
        return self.clean_examples + self.corrupted_examples

    @property
    def noisy_steps(self) -> int:
        """Number of steps before the noise is turned off."""
        return self.steps - round(self.cooldown * self.steps)


def from_dict(values: Mapping[str, Any]) -> Settings:
    """Settings as read from JSON, where tuples have become lists.

    Args:
      values: one entry for each field of `Settings`.

    Raises:
      ValueError: if an entry is missing, unknown or not accepted.
      TypeError: if an entry is of the wrong type.
    """
    names = {field.name for field in dataclasses.fields(Settings)}
    for name in sorted(names ^ set(values)):
        problem = "is missing" if name in names else "is not known to this version"
        raise ValueError(f"The `{name}` setting {problem}.")
    methods = values["methods"]
    methods = tuple(methods) if isinstance(methods, list) else methods
    return Settings(**{**values, "methods": methods})


def changed_settings(old: Settings, new: Settings) -> list[str]:
    """One line for each setting that differs, with both values."""
    return [
        f"`{field.name}` is {getattr(old, field.name)!r} there and "
        f"{getattr(new, field.name)!r} here"
        for field in dataclasses.fields(Settings)
        if getattr(old, field.name) != getattr(new, field.name)
    ]


def _message(name: str, accepted: str, value: Any) -> str:
    return f"The `{name}` setting must be {accepted}. Got {value!r} instead."


def _check_choice(name: str, value: Any, choices: Any) -> None:
    if value not in typing.get_args(choices):
        accepted = " or ".join(repr(choice) for choice in typing.get_args(choices))
        raise ValueError(_message(name, accepted, value))


def _is_positive_integer(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _is_not_negative_integer(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _is_positive(value: Any) -> bool:
    return math.isfinite(value) and value > 0


_RULES = (
    (
        "image_size",
        "an integer of at least 16",
        lambda v: isinstance(v, int) and v > 15,
    ),
    ("clean_examples", "an integer of at least 0", _is_not_negative_integer),
    ("corrupted_examples", "an integer of at least 0", _is_not_negative_integer),
    ("steps", "a positive integer", _is_positive_integer),
    ("batch_size", "a positive integer", _is_positive_integer),
    ("learning_rate", "a positive number", _is_positive),
    ("alpha", "a positive number", _is_positive),
    ("scale", "a number of at least 0", lambda v: math.isfinite(v) and v >= 0),
    ("max_norm", "a positive number", _is_positive),
    ("cooldown", "a number from 0 to 1", lambda v: 0 <= v <= 1),
    ("seed", "an integer from 0 to 4294967295", lambda v: _is_seed(v)),
    ("eval_every", "a positive integer", _is_positive_integer),
)


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**32
