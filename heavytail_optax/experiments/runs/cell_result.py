"""What one cell of a grid of methods and seeds came to."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from heavytail_optax.experiments.methods import METHODS, MethodName

CellStatus = Literal["finished", "interrupted", "diverged", "missing"]


class CellResult(NamedTuple):
    """One run: a method with a seed. What is not known is None.

    Attributes:
      method: its name.
      seed: of the initial weights, batches, noise and random labels.
      status: "finished" if it came to its last step with a finite loss, "missing" if it
        was asked for and not started.
      step: number of steps done.
      steps: number of steps asked for.
      train_accuracy: from 0 to 1, on all training images as they are labelled.
      test_accuracy: from 0 to 1.
      train_loss: cross-entropy in nats on all training images.
      truncated: share of all steps whose update was truncated, from 0 to 1.
      seconds: without compilation.
      examples_per_step: images that a step processes.
      sharpness: measure -> (value, standard error of its own sampling, None if it has
        none), such as "expected_sharpness", "pac_bayes_sharpness", "maximal_sharpness".
      asked_measures: those of `sharpness` that the run is not done without.
      test_images: number of images behind `test_accuracy`.
      classes: number of classes of the data.
    """

    method: MethodName
    seed: int
    status: CellStatus
    step: int
    steps: int
    train_accuracy: float | None = None
    test_accuracy: float | None = None
    train_loss: float | None = None
    truncated: float | None = None
    seconds: float | None = None
    examples_per_step: float | None = None
    sharpness: Mapping[str, tuple[float, float | None]] = MappingProxyType({})
    asked_measures: tuple[str, ...] = ("expected_sharpness",)
    test_images: int | None = None
    classes: int | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: diverged, or trained and measured."""
        is_measured = set(self.asked_measures) <= set(self.sharpness)
        return self.status == "diverged" or (self.status == "finished" and is_measured)

    @property
    def outcome(self) -> str:
        """In words: "finished", "missing" or "diverged at step 1,204"."""
        if self.status in ("finished", "missing"):
            return self.status
        return f"{self.status} at step {self.step:,}"

    @property
    def label(self) -> str:
        """The method's name with that of the paper's tables."""
        return METHODS[self.method].label
