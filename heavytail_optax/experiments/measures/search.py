"""How the measures of flatness search, as far as a user may choose."""

import dataclasses

from heavytail_optax.experiments.configuration.setting_rules import check_option
from heavytail_optax.experiments.configuration.settings import Settings


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

    samples: int | None = None
    target: float = 0.1
    paths: int = 8
    jumps: int = 3

    def __post_init__(self) -> None:
        if self.samples is not None:
            check_option("samples", self.samples, at_least=2)
        check_option("paths", self.paths, at_least=1)
        check_option("jumps", self.jumps, at_least=1)
        if not 0 < self.target < 1:
            raise ValueError(
                "The `target` option must be a number above 0 and below 1. Got "
                f"{self.target!r} instead."
            )

    def samples_of(self, settings: Settings) -> int:
        """Number of perturbations for a run with these settings."""
        return self.samples or settings.sharpness_samples
