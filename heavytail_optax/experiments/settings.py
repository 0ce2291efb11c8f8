"""All the numbers of one run, in groups: each field with its type, rule and help.

The dataclasses are the Python API, the schema of the command line and its help. A field
has its rule, and its value where a preset has no other, with the source of that. Its help
is in the docstring of the group.
"""

import dataclasses
import decimal
import math
from typing import Annotated, Literal

import tyro

from .data.catalogue import CATALOGUE, DIGITS, DataName
from .methods import METHODS, Method, MethodName
from .setting_rules import (
    ABOVE_0_TO_1,
    BETWEEN_0_AND_1,
    FROM_0_TO_1,
    FROM_0_TO_BELOW_1,
    NOT_NEGATIVE,
    POSITIVE_INTEGER,
    POSITIVE_NUMBER,
    SEED,
    UNSET,
    at_least,
    check_fields,
    message,
    sourced,
)

_MAX_NORM = 0.25
_Count = Annotated[int | None, POSITIVE_INTEGER, UNSET]

PixelRange = Literal["minus-one-to-one", "zero-to-one"]
TableMeasure = Literal["expected", "pac-bayes", "maximal"]
"""The measures of the paper's tables."""
FollowedMeasure = Literal["critical", "eigenvalue", "expected"]
"""What is cheap enough to be measured again and again during training."""


@dataclasses.dataclass(frozen=True)
class _Group:
    """Settings that are checked when they are made."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class DataSettings(_Group):
    """What is trained on.

    Attributes:
      data: digits (1,797 handwritten digits that come with scikit-learn), folder (your
        images, in --data-dir: train/CLASS/* and test/CLASS/*), or a published data set.
        Its files come from --data-dir, the system's package or the Hugging Face hub.
      image_size: Height and width. Digits and folders are resized, others get a black
        margin. A folder whose images have one size may do without.
      pixel_range: Range that the pixels are scaled to.
      test_share: Share of a folder without test/ that is for testing, at random.
      swap_train_and_test: Train on the test file, and test on the training file.
      clean_examples: Number of training images with their true label, the first ones.
        By default of a folder, all that are left.
      corrupted_examples: Number of training images with a label drawn at random from
        all classes. These come next in the file. Some draws are right by chance. Digits
        have one file, whose other images are for testing.
      test_examples: Number of test images. By default all.
      augmentation: What changes a training image in each step: none, or crop-flip (a
        shift by up to 4 pixels, and a mirror image with probability 1/2).
    """

    data: DataName = sourced(
        "digits", "ours: comes with scikit-learn, nothing is downloaded"
    )
    image_size: Annotated[int | None, at_least(16), UNSET] = sourced(
        28, "zhu: FashionMNIST's"
    )
    pixel_range: PixelRange = sourced(
        "minus-one-to-one", "zhu: for corrupted FashionMNIST"
    )
    test_share: Annotated[float | None, BETWEEN_0_AND_1, UNSET] = sourced(None, "ours")
    swap_train_and_test: bool = sourced(
        value=False, source="ours: the digits are one file"
    )
    clean_examples: Annotated[int | None, at_least(0), UNSET] = sourced(
        1000, "zhu: for corrupted FashionMNIST"
    )
    corrupted_examples: Annotated[int, at_least(0)] = sourced(200, "zhu: FashionMNIST")
    test_examples: _Count = sourced(None, "ours: all")
    augmentation: Literal["none", "crop-flip"] = sourced("none", "zhu")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clean_examples is None and self.data != "folder":
            accepted = "'folder' where `clean_examples` is not given"
            raise ValueError(message("data", accepted, self.data))

    @property
    def training_examples(self) -> int:
        """Number of training images, random labels included."""
        if self.clean_examples is None:
            raise ValueError(message("clean_examples", "a number", None))
        return self.clean_examples + self.corrupted_examples

    @property
    def evaluated_images(self) -> int:
        """Number of images that an evaluation goes through."""
        if self.test_examples is not None:
            return self.training_examples + self.test_examples
        if self.data == "digits":
            return DIGITS
        if self.data == "folder":
            return self.training_examples
        files = CATALOGUE[self.data]
        test = files.train if self.swap_train_and_test else files.test
        return self.training_examples + test.num_images


@dataclasses.dataclass(frozen=True)
class ModelSettings(_Group):
    """What is trained.

    Attributes:
      model: lenet (11,330 parameters on images of 28x28), vgg11 or vgg16 (without batch
        normalisation, on images of at least 32x32).
      width: Multiplies the numbers of channels and hidden units.
      initialisation: Initial weights: he (normal, variance 2/fan-in), truncated-normal
        of standard deviation 0.02 (cut at two of them), or fan-out (for convolutions
        normal, variance 2/fan-out).
    """

    model: Literal["lenet", "vgg11", "vgg16"] = sourced("lenet", "zhu")
    width: Annotated[float, POSITIVE_NUMBER] = sourced(1.0, "zhu")
    initialisation: Literal["he", "truncated-normal", "fan-out"] = sourced(
        "he", "ours: zhu's truncated normal starts with a plateau"
    )

    def check_image_size(self, size: int) -> None:
        """Refuses images of which the network leaves no pixel."""
        least = 16 if self.model == "lenet" else 32
        if size < least:
            accepted = f"at least {least} for {self.model}"
            raise ValueError(message("image_size", accepted, size))


@dataclasses.dataclass(frozen=True)
class TrainingSettings(_Group):
    """How it is trained, and for how long, with every method.

    Attributes:
      steps: Number of updates. A pass over all images takes (number of images) / (batch
        size) steps.
      batch_size: Images of a small batch (SB). Each step draws new ones, without
        replacement.
      learning_rate: Multiplies the gradient and its noise (eta).
      learning_rate_schedule: constant, or cosine: from the learning rate down to 0.
      precision: Of products and convolutions: float32, or bfloat16 summed in float32.
      eval_every: Steps between two evaluations. Each also saves a checkpoint. By
        default 100, or as many more as make evaluations take about a tenth of the time
        of SGD's steps. A run of fewer than 1,000 steps is evaluated ten times, if that
        takes no more than half of their time.
    """

    steps: Annotated[int, POSITIVE_INTEGER] = sourced(2000, "ours")
    batch_size: Annotated[int, POSITIVE_INTEGER] = sourced(
        100, "zhu: for SVHN and CIFAR10"
    )
    learning_rate: Annotated[float, POSITIVE_NUMBER] = sourced(
        0.05, "zhu: for SVHN and CIFAR10"
    )
    learning_rate_schedule: Literal["constant", "cosine"] = sourced("constant", "zhu")
    precision: Literal["float32", "bfloat16"] = sourced("float32", "zhu")
    eval_every: _Count = sourced(
        None, "ours: evaluations then take about a tenth of the time"
    )

    def evaluation_steps(self, images: int) -> int:
        """Number of steps from one evaluation, of so many images, to the next."""
        if self.eval_every is not None:
            return self.eval_every
        # By images, not seconds: every machine evaluates the same steps. Without a
        # gradient an image costs about a third of what it costs in a step.
        cost = images / (3 * self.batch_size)
        rounding = decimal.Context(2, decimal.ROUND_CEILING)
        every = max(100, int(rounding.create_decimal(10 * cost)))
        if self.steps < 1000:
            # A curve of one point shows nothing, and a short run is soon over.
            every = min(every, max(math.ceil(self.steps / 10), math.ceil(2 * cost)))
        return every


@dataclasses.dataclass(frozen=True)
class MethodSettings(_Group):
    """The method, and what methods are made of.

    Attributes:
      method: What a step does. The list of methods has the names.
      alpha: Tail index of all noise: P(|Z| > x) falls like x^-alpha. Smaller is
        heavier. The theory needs a number between 1 and 2.
      inflation_scale: The scale c of the inflated methods. Each step multiplies its
        gradient noise by Z = cW, with W a new Pareto draw of at least 1.
      inflation_law: Law of W: pareto, or normal. The normal law is a control: it has
        light tails and changes nothing else.
      inflate_above: Inflate only in steps where W is above this quantile of its law.
        With 0, inflate in every step. All other steps cost what a step of SGD costs.
      large_batch_size: Images of the large batch (LB). By default all training images.
      noise_scale: Scale of the noise that truncated-heavy-tailed-sgd adds to the
        gradient.
      direction: Direction of that noise: elementwise (a draw for each weight, so a
        large jump is along an axis) or isotropic (one draw for all, in a uniformly
        random direction).
      max_norm: Largest norm of an update over all weights, after the learning rate (b).
        By default 0.25, unless truncated-share is given. Methods that cut no update have
        it too: it is the length of the jumps of heavytail flatness --measures escape.
      truncated_share: Share of the updates to truncate, in place of max-norm. The bound
        then sets itself in the first tenth of the steps, at least 100, and stays.
      cooldown: Share of the steps that are without noise or inflation, at the end.
      sam_radius: Distance at which sam, f-sam and msam take their gradient (rho).
      gradient_average: Decay of the mean of the gradients that f-sam takes the noise
        from (lambda).
      momentum: Share of its momentum that msam keeps in a step (mu). A step is then up
        to 1 / (1 - mu) times as long: choose the learning rate accordingly.
      averaged_share: Share of the steps, at the end, whose weights sgd-averaged
        averages.
    """

    # A command has --methods instead, which may be several.
    method: Annotated[MethodName, tyro.conf.Suppress, tyro.conf.Fixed]
    alpha: Annotated[float, POSITIVE_NUMBER] = sourced(1.4, "theta")
    inflation_scale: Annotated[float, NOT_NEGATIVE] = sourced(0.5, "theta")
    inflation_law: Literal["pareto", "normal"] = sourced(
        "pareto", "ours: theta draws Lomax factors"
    )
    inflate_above: Annotated[float, FROM_0_TO_BELOW_1] = sourced(
        0.0, "ours: the paper inflates in every step"
    )
    large_batch_size: _Count = sourced(None, "ours: the whole training set")
    noise_scale: Annotated[float, NOT_NEGATIVE] = sourced(
        0.001, "ours: about one update in ten is then truncated"
    )
    direction: Literal["elementwise", "isotropic"] = sourced("elementwise", "ours")
    max_norm: Annotated[float | None, POSITIVE_NUMBER, UNSET] = sourced(
        None, "theta: 0.25"
    )
    truncated_share: Annotated[float | None, BETWEEN_0_AND_1, UNSET] = sourced(
        None, "ours: the paper's bound is fixed"
    )
    cooldown: Annotated[float, FROM_0_TO_1] = sourced(0.2, "ours")
    sam_radius: Annotated[float, POSITIVE_NUMBER] = sourced(0.05, "foret: default")
    gradient_average: Annotated[float, FROM_0_TO_BELOW_1] = sourced(0.9, "li: default")
    momentum: Annotated[float, FROM_0_TO_BELOW_1] = sourced(0.9, "becker: default")
    averaged_share: Annotated[float, ABOVE_0_TO_1] = sourced(
        0.25, "izmailov: from three quarters of the budget on"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_norm is not None and self.truncated_share is not None:
            accepted = f"left out where `max_norm` is given ({self.max_norm!r})"
            raise ValueError(message("truncated_share", accepted, self.truncated_share))

    @property
    def kind(self) -> Method:
        """What a step of the method is made of."""
        return METHODS[self.method]

    @property
    def jump_norm(self) -> float:
        """The fixed bound b; also what flatness is measured with where it is not fixed."""
        return _MAX_NORM if self.max_norm is None else self.max_norm

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
    """What is measured after the last step.

    Attributes:
      measures: What heavytail reproduce measures of each run, as in the paper's tables.
        heavytail flatness has more.
      measured_images: Number of training images that is measured on, evenly spaced. By
        default all, which takes long for large data sets.
      sharpness_stddev: Standard deviation of the normal noise on the weights. The
        expected sharpness is the mean change of the loss under this noise.
      sharpness_samples: Number of draws of that noise.
    """

    measures: tuple[TableMeasure, ...] = sourced(
        ("expected", "pac-bayes", "maximal"), "ours: those of either table of the paper"
    )
    measured_images: _Count = sourced(None, "ours: all")
    sharpness_stddev: Annotated[float, POSITIVE_NUMBER] = sourced(0.01, "zhu")
    sharpness_samples: Annotated[int, at_least(2)] = sourced(
        100, "ours: zhu takes 1,000"
    )


@dataclasses.dataclass(frozen=True)
class FollowSettings(_Group):
    """What is measured during training, outside of the time of the steps.

    Attributes:
      follow_sharpness: Steps between two measurements of the sharpness, from the first
        weights on. By default it is not followed.
      followed_measures: critical (2 over the least step along the gradient that raises
        the loss: a gradient and about seven losses), eigenvalue (the largest one of the
        Hessian: 31 products), or expected (as in heavytail flatness, with
        --sharpness-samples draws).
      followed_images: Number of training images that it is measured on, evenly spaced,
        always the same. At most all are.
    """

    follow_sharpness: _Count = sourced(None, "ours")
    followed_measures: tuple[FollowedMeasure, ...] = sourced(
        ("critical",), "kalra: it needs no second derivative"
    )
    followed_images: Annotated[int, POSITIVE_INTEGER] = sourced(500, "ours")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.follow_sharpness is not None:
            return
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                accepted = "left out where `follow_sharpness` is not given"
                raise ValueError(message(field.name, accepted, value))

    def is_due(self, step: int) -> bool:
        """Whether the sharpness is measured after so many steps."""
        every = self.follow_sharpness
        return every is not None and step % every == 0

    def next_due(self, step: int) -> float:
        """The next step after this one at which it is measured; infinite without one."""
        every = self.follow_sharpness
        return math.inf if every is None else step - step % every + every


@dataclasses.dataclass(frozen=True)
class Settings(_Group):
    """One run: one method with one seed. The defaults are those of the preset.

    Attributes:
      seed: Sets the random labels, the initial weights, the batches and all noise.
    """

    data: DataSettings
    model: ModelSettings
    training: TrainingSettings
    method: MethodSettings
    measuring: MeasureSettings
    following: FollowSettings
    # In no group: what is compiled or cached for a group serves all seeds.
    seed: Annotated[int, SEED] = sourced(0, "ours")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data.image_size is not None:
            self.model.check_image_size(self.data.image_size)
        if self.data.clean_examples is None:  # not yet counted
            return
        sizes = {"batch_size": self.training.batch_size}
        if "large" in self.method.kind.batches:
            sizes["large_batch_size"] = self.method.large_batch_images(
                self.data.training_examples
            )
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
    def evaluation_steps(self) -> int:
        """Number of steps from one evaluation to the next."""
        return self.training.evaluation_steps(self.data.evaluated_images)
