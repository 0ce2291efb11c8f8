"""How heavy the tails of a run's gradient noise are, layer by layer."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax.tail_index import (
    TailAssessment,
    TailFit,
    assess_tail,
    compare_fits,
)

from .gradient_noise import SIZES, NoiseDraws, Size

# Student's and the stable law are two-sided laws of a number, which a norm is not.
ALTERNATIVES: dict[Size, tuple[str, ...]] = {
    "norm": ("exponential", "lognormal"),
    "projection": ("exponential", "lognormal", "student_t", "stable"),
    "coordinate": ("exponential", "lognormal", "student_t", "stable"),
}
_FEWEST = 10  # positive draws that `assess_tail` takes


class LayerTail(NamedTuple):
    """One size of one layer's noise."""

    layer: str  # its name, or "all"
    parameters: int
    size: Size
    draws: int
    non_finite: int  # draws that are NaN or infinite
    assessment: TailAssessment | None  # None with these, or if almost all are zero
    fits: dict[str, TailFit]  # the power law's rivals, by name; empty likewise

    @property
    def verdict(self) -> str:
        """In a few words."""
        return self.assessment.verdict if self.assessment else "cannot tell"

    @property
    def sentence(self) -> str:
        """The verdict in a sentence, with numbers."""
        if self.assessment:
            return self.assessment.sentence
        if self.non_finite:
            return (
                f"Cannot tell: {self.non_finite} of {self.draws} draws are not finite."
            )
        return f"Cannot tell: fewer than {_FEWEST} of {self.draws} draws are not zero."


def assess_noise(
    draws: NoiseDraws, tick: Callable[[int, int], None] = lambda done, total: None
) -> list[LayerTail]:
    """The tails of every size, of all layers together and of each.

    `tick` is called with the number of tails done and of all, before each and at the end.
    """
    found: list[LayerTail] = []
    layers = list(zip(draws.layers, draws.parameters, strict=True))
    total = len(SIZES) * len(layers)
    for size, (layer, parameters) in itertools.product(SIZES, layers):
        tick(len(found), total)
        values = draws.of(size, layer)
        assessment, fits = _assess(values, ALTERNATIVES[size])
        bad = np.count_nonzero(~np.isfinite(values))
        found.append(
            LayerTail(layer, parameters, size, values.size, bad, assessment, fits)
        )
    tick(total, total)
    return found


def _assess(
    values: np.ndarray, alternatives: tuple[str, ...]
) -> tuple[TailAssessment | None, dict[str, TailFit]]:
    # Zeros, as of units that are off, are draws too, but have no logarithm.
    positive = values[values > 0.0]
    if positive.size < _FEWEST or not np.isfinite(values).all():
        return None, {}
    assessment = assess_tail(jnp.asarray(positive), num_draws=values.size)
    k = assessment.k
    # The draws that count, so the compiled program depends on k alone.
    top = jnp.asarray(np.sort(positive)[-k - 1 :])
    rivals = compare_fits(top, k, alternatives=alternatives)
    del rivals["power_law"]
    return assessment, jax.tree.map(float, rivals)
