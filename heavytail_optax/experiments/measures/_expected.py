"""Expected sharpness, in parts, so that it can show its progress and be stopped."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from heavytail_optax.experiments.data import Split
from heavytail_optax.experiments.measures._problem import (
    Arguments,
    Loss,
    Outcome,
    Problem,
    Tick,
)
from heavytail_optax.experiments.measures.search import Search
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.flatness import ExpectedSharpness, expected_sharpness

# The loss without perturbation is computed again in each part: a tenth more work.
_SAMPLES_A_PART = 10


class Part(NamedTuple):
    """Mean and its standard error over a part of the samples."""

    samples: int
    mean: float
    standard_error: float  # NaN for a single sample


def expected_arguments(settings: Settings, search: Search) -> Arguments:
    """Of `flatness.expected_sharpness`."""
    return {
        "stddev": settings.measuring.sharpness_stddev,
        "num_samples": search.samples_of(settings),
    }


def measure_expected(
    problem: Problem, arguments: Arguments, tick: Tick
) -> Outcome | None:
    """The mean change of the loss; None if it was stopped."""
    parts: list[Part] = []
    total = arguments["num_samples"]
    for done in range(0, total, _SAMPLES_A_PART):
        if tick(done, total):
            return None
        samples = min(_SAMPLES_A_PART, total - done)
        measure = _compiled(problem.loss, samples)
        key = jax.random.fold_in(problem.key, done)
        mean, error = measure(problem.params, problem.train, key, arguments["stddev"])
        parts.append(Part(samples, float(mean), float(error)))
    return Outcome({"expected_sharpness": pooled(parts)})


def pooled(parts: Sequence[Part]) -> tuple[float, float]:
    """Mean and its standard error over all samples, as if they were never parted.

    Example:
      >>> mean, error = pooled([Part(2, 1.5, 0.5), Part(1, 3.0, float("nan"))])
      >>> round(mean, 6), round(error, 6)  # of the samples 1, 2 and 3
      (2.0, 0.57735)
    """
    count = sum(part.samples for part in parts)
    mean = sum(part.samples * part.mean for part in parts) / count
    between = sum(part.samples * (part.mean - mean) ** 2 for part in parts)
    within = sum(
        part.samples * (part.samples - 1) * part.standard_error**2
        for part in parts
        if part.samples > 1
    )
    return mean, math.sqrt((between + within) / (count * (count - 1)))


@functools.lru_cache(maxsize=4)
def _compiled(loss: Loss, samples: int):
    """A part of the samples, shared by the runs of a grid."""

    def measure(
        params: Any, train: Split, key: jax.Array, stddev: float
    ) -> ExpectedSharpness:
        return expected_sharpness(
            loss,
            params,
            key=key,
            args=(train,),
            stddev=stddev,
            num_samples=samples,
            samples_at_once=1,
        )

    return jax.jit(measure)
