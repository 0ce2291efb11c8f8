"""All the numbers of a training job, in one frozen dataclass.

The dataclass is the Python API, the schema of the command line and, through its
docstring, the help text.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal

from heavytail_optax.experiments.configuration.measure_names import (
    TABLE_MEASURES,
    TableMeasure,
)
from heavytail_optax.experiments.configuration.methods import (
    METHOD_NAMES,
    METHODS,
    MethodName,
)
from heavytail_optax.experiments.configuration.setting_rules import (
    RULES,
    check_choice,
    check_names,
    check_number,
    check_truth,
    message,
)

DataName = Literal["digits", "fashion-mnist", "svhn", "cifar10", "cifar100"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained, on what, how and for how long.

    Every setting has a default in each preset, and so none here.

    Attributes:
      methods: Train with these, one after the other, from the same initial weights and
        through the same small batches. The list above says what each one does.
      data: Images: digits (1,797 handwritten digits that come with scikit-learn),
        fashion-mnist, svhn, cifar10 or cifar100 (from --data-dir, the system's package
        or the Hugging Face hub).
      image_size: Height and width of the images. Those of digits are resized to it, all
        others get a black margin.
      pixel_range: Pixels are scaled to minus-one-to-one or zero-to-one.
      swap_train_and_test: Train on the data set's test file and test on its training
        file.
      clean_examples: The first training images, trained on with their label.
      corrupted_examples: The images after those, trained on with a label drawn at
        random from all classes. (Of digits, which are one file, all after these are for
        testing.)
      test_examples: The first so many test images count. By default all.
      augmentation: What a training image goes through in each step: none or crop-flip
        (shifted by up to 4 pixels, and mirrored with probability 1/2).
      model: Network: lenet (11,330 parameters on images of 28x28), vgg11 or vgg16
        (without batch normalisation; images of at least 32x32).
      width: Factor on the channels and hidden units of the network.
      initialisation: Initial weights: he (normal, variance 2/fan-in), truncated-normal
        (standard deviation 0.02, cut at two of them) or fan-out (convolutions normal,
        variance 2/fan-out).
      steps: Number of updates, for each method.
      batch_size: Images of a small batch (SB), drawn without replacement, anew in each
        step.
      learning_rate: Factor on the gradient and its noise (eta).
      learning_rate_schedule: The learning rate over the steps: constant, or cosine
        (from its value down to 0).
      alpha: Tail index of all noise: P(|Z| > x) falls like x^-alpha.
      inflation_scale: The Z of the inflated methods is this factor (c) times a Pareto
        draw W of at least 1, one for each step.
      inflation_law: Law of W: pareto, or normal, whose tails are light: the control
        that has all of the inflated methods but the heavy tail.
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
      sam_radius: How far uphill sam takes its gradient (rho).
      averaged_share: Share of the steps, at the end, over whose weights sgd-averaged
        takes the mean.
      sharpness_stddev: Standard deviation of the normal perturbations of the weights
        whose mean effect on the loss is the expected sharpness.
      sharpness_samples: Number of these perturbations.
      measures: What heavytail reproduce measures after the last step, as the paper's
        tables: expected (sharpness), pac-bayes or maximal. heavytail flatness has more.
      seed: Sets the random labels, the initial weights, the batches and all noise.
      eval_every: Steps from one evaluation to the next; each saves a checkpoint.

    Raises:
      ValueError: if a value is not accepted, naming the setting and the value.
      TypeError: if a value is of the wrong type.

    Example:
      >>> import dataclasses
      >>> from heavytail_optax.experiments.configuration.presets import PRESETS
      >>> settings = PRESETS["corrupted-digits"].settings
      >>> dataclasses.replace(settings, batch_size=0)
      Traceback (most recent call last):
      ...
      ValueError: The `batch_size` setting must be a positive integer. Got 0 instead.
    """

    methods: tuple[MethodName, ...]
    data: DataName
    image_size: int
    pixel_range: Literal["minus-one-to-one", "zero-to-one"]
    swap_train_and_test: bool
    clean_examples: int
    corrupted_examples: int
    test_examples: int | None
    augmentation: Literal["none", "crop-flip"]
    model: Literal["lenet", "vgg11", "vgg16"]
    width: float
    initialisation: Literal["he", "truncated-normal", "fan-out"]
    steps: int
    batch_size: int
    learning_rate: float
    learning_rate_schedule: Literal["constant", "cosine"]
    alpha: float
    inflation_scale: float
    inflation_law: Literal["pareto", "normal"]
    inflate_above: float
    large_batch_size: int | None
    noise_scale: float
    direction: Literal["elementwise", "isotropic"]
    max_norm: float
    cooldown: float
    sam_radius: float
    averaged_share: float
    sharpness_stddev: float
    sharpness_samples: int
    measures: tuple[TableMeasure, ...]
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
        check_names("methods", self.methods, METHOD_NAMES)
        check_names("measures", self.measures, TABLE_MEASURES)
        check_truth("swap_train_and_test", self.swap_train_and_test)
        for name in ("batch_size", "large_batch_size"):
            size = getattr(self, name)
            if size is not None and size > self.training_examples:
                accepted = f"at most the {self.training_examples} training images"
                raise ValueError(message(name, accepted, size))
        for name in self.methods:
            least = METHODS[name].least_batch_size
            if self.batch_size < least:
                accepted = f"at least {least} with the method {name!r}, which splits it"
                raise ValueError(message("batch_size", accepted, self.batch_size))

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
    return Settings(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
    )


def changed_settings(old: Settings, new: Settings) -> list[str]:
    """One line for each setting that differs, with both values."""
    return [
        f"`{field.name}` is {getattr(old, field.name)!r} there and "
        f"{getattr(new, field.name)!r} here"
        for field in dataclasses.fields(Settings)
        if getattr(old, field.name) != getattr(new, field.name)
    ]
