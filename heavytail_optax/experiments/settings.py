"""All the numbers of a training job, in one frozen dataclass.

The dataclass is the Python API, the schema of the command line and, through its
docstring, the help text.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal

from heavytail_optax.experiments.methods import METHOD_NAMES, MethodName
from heavytail_optax.experiments.setting_rules import (
    RULES,
    check_choice,
    check_names,
    check_number,
    message,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained, on what, how and for how long.

    Every setting has a default in each preset, and so none here.

    Attributes:
      method: Train with these, one after the other, from the same initial weights and
        through the same small batches. The list above says what each one does.
      data: Images: digits (1,797 handwritten digits that come with scikit-learn),
        fashion-mnist, svhn, cifar10 or cifar100.
      image_size: Height and width. The digits are resized to it; other images get a
        black border.
      swap_train_and_test: Train on the file of test images and test on the file of
        training images.
      clean_examples: The first images of the data set, trained on with their label.
      corrupted_examples: The images after those, trained on with a label drawn at
        random from all classes.
      test_examples: The first of the test images. By default all of them.
      pixel_range: Of the network's input: minus-one-to-one or zero-to-one.
      augmentation: What is done to each training image: none or crop-flip.
      model: Network: lenet (11,330 parameters on images of 28x28).
      initialisation: Initial weights: he (normal, variance 2/fan-in) or
        truncated-normal (standard deviation 0.02, cut at two of them).
      steps: Number of updates, for each method.
      batch_size: Images of a small batch (SB), drawn without replacement, anew in each
        step.
      learning_rate: Factor on the gradient and its noise (eta).
      alpha: Tail index of all noise: P(|Z| > x) falls like x^-alpha.
      inflation_scale: The Z of the inflated methods is this factor (c) times a Pareto
        draw W of at least 1, one for each step.
      inflate_above: Inflate only where W is above this quantile of its law, from 0 (in
        every step) to below 1. All other steps cost what SGD costs.
      large_batch_size: Images of the large batch (LB). By default all training images.
      noise_scale: Factor on the noise that truncated-heavy-tailed-sgd adds to the
        gradient.
      direction: Where that noise's large jumps point: elementwise (a draw for each
        weight, so along an axis) or isotropic (one draw for all, in a uniformly random
        direction).
      max_norm: Largest norm of an update over all weights, learning rate included (b).
      cooldown: Share of the steps, at the end, without noise or inflation.
      seed: Sets the random labels, the initial weights, the batches and all noise.
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

    method: tuple[MethodName, ...]
    data: Literal["digits", "fashion-mnist", "svhn", "cifar10", "cifar100"]
    image_size: int
    swap_train_and_test: bool
    clean_examples: int
    corrupted_examples: int
    test_examples: int | None
    pixel_range: Literal["minus-one-to-one", "zero-to-one"]
    augmentation: Literal["none", "crop-flip"]
    model: Literal["lenet"]
    initialisation: Literal["he", "truncated-normal"]
    steps: int
    batch_size: int
    learning_rate: float
    alpha: float
    inflation_scale: float
    inflate_above: float
    large_batch_size: int | None
    noise_scale: float
    direction: Literal["elementwise", "isotropic"]
    max_norm: float
    cooldown: float
    seed: int
    eval_every: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_left_out = value is None and type(None) in typing.get_args(field.type)
            if field.name in RULES and not is_left_out:
                check_number(field.name, value)
        for field in dataclasses.fields(self):
            if typing.get_origin(field.type) is Literal:
                choices = typing.get_args(field.type)
                check_choice(field.name, getattr(self, field.name), choices)
        check_names("method", self.method, METHOD_NAMES)
        for name in ("batch_size", "large_batch_size"):
            size = getattr(self, name)
            if size is not None and size > self.training_examples:
                accepted = f"at most the {self.training_examples} training images"
                raise ValueError(message(name, accepted, size))

    @property
    def training_examples(self) -> int:
        """Number of training images, random labels included."""
        return self.clean_examples + self.corrupted_examples

    @property
    def large_batch_images(self) -> int:
        """Number of images of the large batch."""
        return self.large_batch_size or self.training_examples

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
    method = values["method"]
    method = tuple(method) if isinstance(method, list) else method
    return Settings(**{**values, "method": method})


def changed_settings(old: Settings, new: Settings) -> list[str]:
    """One line for each setting that differs, with both values."""
    return [
        f"`{field.name}` is {getattr(old, field.name)!r} there and "
        f"{getattr(new, field.name)!r} here"
        for field in dataclasses.fields(Settings)
        if getattr(old, field.name) != getattr(new, field.name)
    ]
