"""How the measures of flatness search, as far as a user may choose."""

import dataclasses
from typing import Annotated

from heavytail_optax.experiments.setting_rules import (
    BETWEEN_0_AND_1,
    at_least,
    check_fields,
)
from heavytail_optax.experiments.settings import Settings


@dataclasses.dataclass(frozen=True)
class Search:
    """How the measures search; the library's defaults where nothing is given.

    Attributes:
      samples: Perturbations for the expected sharpness, perturbations of each size for
        the PAC-Bayes sharpness, and random vectors for the trace. By default the
        --sharpness-samples of the run.
      target: Loss of training accuracy, as a share of the images, that the PAC-Bayes
        and the maximal sharpness accept (Jiang et al. 2020: 0.1).
      paths: Paths out of the minimum for escape, in each of three kinds of direction.
      jumps: Jumps of a path, each of the norm b (--max-norm) of the run.
    """

    samples: Annotated[int | None, at_least(2)] = None
    target: Annotated[float, BETWEEN_0_AND_1] = 0.1
    paths: Annotated[int, at_least(1)] = 8
    jumps: Annotated[int, at_least(1)] = 3

    def __post_init__(self) -> None:
        check_fields(self, "option")

    def samples_of(self, settings: Settings) -> int:
        """Number of perturbations for a run with these settings."""
        return self.samples or settings.measuring.sharpness_samples
