"""All the numbers of one run, in groups: each field with its type, rule and help.

The dataclasses are the Python API, the schema of the command line and its help. A field
has its rule, its help, and its value where a preset has no other, with the source of that.
"""

import dataclasses
import decimal
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import tyro

from .data.catalogue import CATALOGUE, DIGITS, DataName
from .methods import METHODS, Method, MethodName
from .setting_rules import (
    ABOVE_0_TO_1,
    FROM_0_TO_1,
    FROM_0_TO_BELOW_1,
    NOT_NEGATIVE,
    POSITIVE_INTEGER,
    POSITIVE_NUMBER,
    SEED,
    at_least,
    check_fields,
    message,
    sourced,
)

_EVALUATED_AT_MOST_EVERY = 100

PixelRange = Literal["minus-one-to-one", "zero-to-one"]
TableMeasure = Literal["expected", "pac-bayes", "maximal"]
"""The measures of the paper's tables."""


@dataclasses.dataclass(frozen=True)
class _Group:
    """Settings that are checked when they are made."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class DataSettings(_Group):
    """What is trained on."""

    data: DataName = sourced(  # noqa: RUF009 - a field
        "digits", "ours: comes with scikit-learn, nothing is downloaded"
    )
    """Images: digits (1,797 handwritten digits that come with scikit-learn), or a published
    data set (from --data-dir, the system's package or the Hugging Face hub)."""
    image_size: Annotated[int, at_least(16)] = sourced(
        28, "zhu: the size of the FashionMNIST images"
    )
    """Height and width of the images. Those of digits are resized to it, all others get a
    black margin."""
    pixel_range: PixelRange = sourced(  # noqa: RUF009 - a field
        "minus-one-to-one", "zhu: for corrupted FashionMNIST"
    )
    """Pixels are scaled to minus-one-to-one or zero-to-one."""
    swap_train_and_test: bool = sourced(
        value=False, source="ours: the digits are one file"
    )
    """Train on the data set's test file and test on its training file."""
    clean_examples: Annotated[int, at_least(0)] = sourced(
        1000, "zhu: for corrupted FashionMNIST"
    )
    """The first training images, trained on with their label."""
    corrupted_examples: Annotated[int, at_least(0)] = sourced(
        200, "zhu: for corrupted FashionMNIST"
    )
    """The images after those, trained on with a label drawn at random from all classes.
    (Of digits, which are one file, all after these are for testing.)"""
    test_examples: Annotated[int | None, POSITIVE_INTEGER] = sourced(
        None, "ours: all that is left"
    )
    """The first so many test images count. By default all."""
    augmentation: Literal["none", "crop-flip"] = sourced("none", "zhu")
    """What a training image goes through in each step: none or crop-flip (shifted by up
    to 4 pixels, and mirrored with probability 1/2)."""

    @property
    def training_examples(self) -> int:
        """Number of training images, random labels included."""
        return self.clean_examples + self.corrupted_examples

    @property
    def evaluated_images(self) -> int:
        """Number of images that an evaluation goes through."""
        if self.test_examples is not None:
            return self.training_examples + self.test_examples
        if self.data == "digits":
            return DIGITS
        files = CATALOGUE[self.data]
        test = files.train if self.swap_train_and_test else files.test
        return self.training_examples + test.num_images


@dataclasses.dataclass(frozen=True)
class ModelSettings(_Group):
    """What is trained."""

    model: Literal["lenet", "vgg11", "vgg16"] = sourced("lenet", "zhu")
    """Network: lenet (11,330 parameters on images of 28x28), vgg11 or vgg16 (without batch
    normalisation; images of at least 32x32)."""
    width: Annotated[float, POSITIVE_NUMBER] = sourced(1.0, "zhu")
    """Factor on the channels and hidden units of the network."""
    initialisation: Literal["he", "truncated-normal", "fan-out"] = sourced(
        "he", "ours: zhu's truncated normal starts with a plateau"
    )
    """Initial weights: he (normal, variance 2/fan-in), truncated-normal (standard
    deviation 0.02, cut at two of them) or fan-out (convolutions normal, variance
    2/fan-out)."""


@dataclasses.dataclass(frozen=True)
class TrainingSettings(_Group):
    """How it is trained, and for how long, whatever the method."""

    steps: Annotated[int, POSITIVE_INTEGER] = sourced(2000, "ours")
    """Number of updates, for each method."""
    batch_size: Annotated[int, POSITIVE_INTEGER] = sourced(
        100, "zhu: for SVHN and CIFAR10"
    )
    """Images of a small batch (SB), drawn without replacement, anew in each step."""
    learning_rate: Annotated[float, POSITIVE_NUMBER] = sourced(
        0.05, "zhu: for SVHN and CIFAR10"
    )
    """Factor on the gradient and its noise (eta)."""
    learning_rate_schedule: Literal["constant", "cosine"] = sourced("constant", "zhu")
    """The learning rate over the steps: constant, or cosine (from its value down to 0)."""
    eval_every: Annotated[int | None, POSITIVE_INTEGER] = sourced(
        None, "ours: evaluations then take about a tenth of the time"
    )
    """Steps from one evaluation to the next; each saves a checkpoint. By default 100, or as
    many more as make evaluations take about a tenth of the time of SGD's steps."""


@dataclasses.dataclass(frozen=True)
class MethodSettings(_Group):
    """The method, and what methods are made of."""

    # A command has --methods instead, which may be several.
    method: Annotated[MethodName, tyro.conf.Suppress, tyro.conf.Fixed]
    """What the steps are: see the list of methods."""
    alpha: Annotated[float, POSITIVE_NUMBER] = sourced(1.4, "theta")
    """Tail index of all noise: P(|Z| > x) falls like x^-alpha."""
    inflation_scale: Annotated[float, NOT_NEGATIVE] = sourced(0.5, "theta")
    """The Z of the inflated methods is this factor (c) times a Pareto draw W of at least
    1, one for each step."""
    inflation_law: Literal["pareto", "normal"] = sourced(
        "pareto", "ours: theta draws Lomax factors"
    )
    """Law of W: pareto, or normal, whose tails are light: the control that has all of the
    inflated methods but the heavy tail."""
    inflate_above: Annotated[float, FROM_0_TO_BELOW_1] = sourced(
        0.0, "ours: the paper inflates in every step"
    )
    """Inflate only where W is above this quantile of its law, from 0 (in every step) to
    below 1. All other steps cost what SGD costs."""
    large_batch_size: Annotated[int | None, POSITIVE_INTEGER] = sourced(
        None, "ours: the whole training set"
    )
    """Images of the large batch (LB). By default all training images."""
    noise_scale: Annotated[float, NOT_NEGATIVE] = sourced(
        0.001, "ours: about one update in ten is then truncated"
    )
    """Factor on the noise that truncated-heavy-tailed-sgd adds to the gradient."""
    direction: Literal["elementwise", "isotropic"] = sourced("elementwise", "ours")
    """Where that noise's large jumps point: elementwise (a draw for each weight, so along
    an axis) or isotropic (one draw for all, in a uniformly random direction)."""
    max_norm: Annotated[float, POSITIVE_NUMBER] = sourced(0.25, "theta")
    """Largest norm of an update over all weights, learning rate included (b)."""
    cooldown: Annotated[float, FROM_0_TO_1] = sourced(0.2, "ours")
    """Share of the steps, at the end, without noise or inflation."""
    sam_radius: Annotated[float, POSITIVE_NUMBER] = sourced(
        0.05, "foret: their default"
    )
    """How far uphill sam takes its gradient (rho)."""
    averaged_share: Annotated[float, ABOVE_0_TO_1] = sourced(
        0.25, "izmailov: from three quarters of the budget on"
    )
    """Share of the steps, at the end, over whose weights sgd-averaged takes the mean."""

    @property
    def kind(self) -> Method:
        """What a step of the method is made of."""
        return METHODS[self.method]

    @property
    def is_outside_theory(self) -> bool:
        """Whether it draws from a tail whose index is not between 1 and 2."""
        is_pareto = self.kind.scheme is not None and self.inflation_law == "pareto"
        return (self.kind.draws_noise or is_pareto) and not 1 < self.alpha < 2

    def large_batch_images(self, training_examples: int) -> int:
        """Number of images of the large batch."""
        return self.large_batch_size or training_examples

    def noisy_steps(self, steps: int) -> int:
        """Number of steps before the noise is turned off."""
        return steps - round(self.cooldown * steps)


@dataclasses.dataclass(frozen=True)
class MeasureSettings(_Group):
    """What is measured after the last step."""

    measures: tuple[TableMeasure, ...] = sourced(
        ("expected", "pac-bayes", "maximal"), "ours: those of either table of the paper"
    )
    """What heavytail reproduce measures after the last step, as the paper's tables:
    expected (sharpness), pac-bayes or maximal. heavytail flatness has more."""
    sharpness_stddev: Annotated[float, POSITIVE_NUMBER] = sourced(0.01, "zhu")
    """Standard deviation of the normal perturbations of the weights whose mean effect on
    the loss is the expected sharpness."""
    sharpness_samples: Annotated[int, at_least(2)] = sourced(
        100, "ours: zhu takes 1,000"
    )
    """Number of these perturbations."""


@dataclasses.dataclass(frozen=True)
class Settings(_Group):
    """One run: one method with one seed. All defaults are those of the presets.

    Example:
      >>> from heavytail_optax.experiments.presets import PRESETS
      >>> settings = PRESETS["corrupted-digits"].settings
      >>> replaced(settings, alpha=1.7).method.alpha
      1.7
      >>> replaced(settings, batch_size=0)
      Traceback (most recent call last):
      ...
      ValueError: The `batch_size` setting must be a positive integer. Got 0 instead.
    """

    data: DataSettings
    model: ModelSettings
    training: TrainingSettings
    method: MethodSettings
    measuring: MeasureSettings
    # In no group: what is compiled or cached for a group serves all seeds.
    seed: Annotated[int, SEED] = sourced(0, "ours")
    """Sets the random labels, the initial weights, the batches and all noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = {
            "batch_size": self.training.batch_size,
            "large_batch_size": self.large_batch_images,
        }
        for name, size in sizes.items():
            if size > self.data.training_examples:
                accepted = f"at most the {self.data.training_examples} training images"
                raise ValueError(message(name, accepted, size))
        least = self.method.kind.least_batch_size
        if self.training.batch_size < least:
            name = self.method.method
            accepted = f"at least {least} with the method {name!r}, which splits it"
            raise ValueError(message("batch_size", accepted, self.training.batch_size))

    @property
    def large_batch_images(self) -> int:
        """Number of images of the large batch."""
        return self.method.large_batch_images(self.data.training_examples)

    @property
    def noisy_steps(self) -> int:
        """Number of steps before the noise is turned off."""
        return self.method.noisy_steps(self.training.steps)

    @property
    def evaluation_steps(self) -> int:
        """Number of steps from one evaluation to the next."""
        return evaluation_steps(self.data, self.training)


def evaluation_steps(data: DataSettings, training: TrainingSettings) -> int:
    """Number of steps from one evaluation to the next.

    The rule counts images, not seconds: every machine evaluates the same steps.
    """
    if training.eval_every is not None:
        return training.eval_every
    # Without a gradient an image costs about a third of what it costs in a step.
    steps = 10 * data.evaluated_images / (3 * training.batch_size)
    rounded_up = float(decimal.Context(2, decimal.ROUND_CEILING).create_decimal(steps))
    return max(_EVALUATED_AT_MOST_EVERY, int(rounded_up))


_GROUPS: Mapping[str, Any] = {
    field.name: field.type
    for field in dataclasses.fields(Settings)
    if dataclasses.is_dataclass(field.type)
}


def default_settings() -> dict[str, tuple[Any, str]]:
    """Name of a setting -> its value where a preset has no other, and the source of it."""
    return {
        field.name: (field.default, field.metadata["source"])
        for kind in (*_GROUPS.values(), Settings)
        for field in dataclasses.fields(kind)
        if "source" in field.metadata
    }


def flat(settings: Settings) -> dict[str, Any]:
    """Name of a setting -> its value, of all groups and the seed."""
    groups = [vars(getattr(settings, group)) for group in _GROUPS]
    return {name: value for group in groups for name, value in group.items()} | {
        "seed": settings.seed
    }


def from_flat(values: Mapping[str, Any]) -> Settings:
    """The inverse of `flat`; a missing or an unknown setting is a ValueError."""
    names = {
        group: [field.name for field in dataclasses.fields(kind)]
        for group, kind in _GROUPS.items()
    }
    known = {"seed", *(name for group in names.values() for name in group)}
    for name in sorted(known ^ set(values)):
        problem = "is missing" if name in known else "is not known to this version"
        raise ValueError(f"The `{name}` setting {problem}.")
    groups = {
        group: kind(**{name: values[name] for name in names[group]})
        for group, kind in _GROUPS.items()
    }
    return Settings(**groups, seed=values["seed"])


def replaced(settings: Settings, **changes: Any) -> Settings:
    """The same with other values of some settings, by their names, of whatever group."""
    return from_flat({**flat(settings), **changes})


def from_dict(values: Mapping[str, Any]) -> Settings:
    """Settings by group, as `dataclasses.asdict` gives them and JSON keeps them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        is_group = name in _GROUPS and isinstance(value, Mapping)
        found |= value if is_group else {name: value}
    # JSON has lists for tuples.
    return from_flat(
        {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    )


def changed_settings(old: Settings, new: Settings) -> list[str]:
    """One line for each setting that differs, with both values."""
    now = flat(new)
    return [
        f"`{name}` is {value!r} there and {now[name]!r} here"
        for name, value in flat(old).items()
        if value != now[name]
    ]
