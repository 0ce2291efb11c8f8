"""Sharpness of a finished run, kept beside its metrics."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from heavytail_optax.experiments.data import Split
from heavytail_optax.experiments.durable_files import replace_file
from heavytail_optax.experiments.evaluation import evaluate
from heavytail_optax.experiments.models import build_model
from heavytail_optax.experiments.parallel import replicate, spread
from heavytail_optax.experiments.random_streams import random_streams
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.flatness import ExpectedSharpness, expected_sharpness

Sharpness = Mapping[str, tuple[float, float | None]]

_EXPECTED = "expected_sharpness"
# The loss without perturbation is computed again in each part: a tenth more work.
_SAMPLES_A_PART = 10


class Part(NamedTuple):
    """Mean and its standard error over a part of the samples."""

    samples: int
    mean: float
    standard_error: float  # NaN for a single sample


def measure_sharpness(
    settings: Settings,
    params: Any,
    train: Split,
    num_classes: int,
    report: Callable[[int], None] = lambda samples: None,
    should_stop: Callable[[], bool] = lambda: False,
    mesh: Mesh | None = None,
) -> Sharpness | None:
    """The measures of the paper's tables, on the whole training set.

    Args:
      settings: of the run.
      params: after the last step.
      train: the training images with the labels that were trained on.
      num_classes: number of classes.
      report: is told how many of the `sharpness_samples` perturbations are done, before
        the first and after every ten.
      should_stop: asked as often.
      mesh: of the devices that the images are spread over, with `params` on each of
        them; None for one device.

    Returns:
      Name of the measure -> its value and the standard error of its own sampling. NaN
      where the loss is not finite. None if `should_stop()` was true.
    """
    shared = dataclasses.replace(settings, methods=("sgd",), seed=0)
    train = replicate(mesh, train)
    key = random_streams(settings.seed).sharpness
    parts: list[Part] = []
    total = settings.sharpness_samples
    for done in range(0, total, _SAMPLES_A_PART):
        report(done)
        if should_stop():
            return None
        samples = min(_SAMPLES_A_PART, total - done)
        measure = _compiled(shared, samples, train.images.shape[1:], num_classes, mesh)
        mean, error = measure(params, train, jax.random.fold_in(key, done))
        parts.append(Part(samples, float(mean), float(error)))
    report(total)
    return {_EXPECTED: pooled(parts)}


def pooled(parts: Sequence[Part]) -> tuple[float, float]:
    """Mean and its standard error over all samples, as if they were never parted.

    Args:
      parts: of independent samples, two at least in all.

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
def _compiled(
    settings: Settings,
    samples: int,
    image_shape: tuple[int, ...],
    num_classes: int,
    mesh: Mesh | None,
) -> Callable[[Any, Split, jax.Array], ExpectedSharpness]:
    """A part of the expected sharpness, shared by the runs of a grid."""
    predict, _ = build_model(settings, image_shape, num_classes)
    predict = spread(mesh, predict)

    def loss(params: Any, train: Split) -> jax.Array:
        return evaluate(predict, params, train).loss

    def measure(params: Any, train: Split, key: jax.Array) -> ExpectedSharpness:
        return expected_sharpness(
            loss,
            params,
            key,
            args=(train,),
            stddev=settings.sharpness_stddev,
            num_samples=samples,
            samples_at_once=1,
        )

    return jax.jit(measure)


def write_sharpness(path: pathlib.Path, sharpness: Sharpness) -> None:
    """Keeps the measures as JSON, all at once or not at all.

    A value that is not finite is written as null, which JSON has.

    Args:
      path: of the file.
      sharpness: of `measure_sharpness`.
    """
    values = {
        name: {"value": _or_none(value), "standard_error": _or_none(error)}
        for name, (value, error) in sharpness.items()
    }
    replace_file(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def read_sharpness(path: pathlib.Path) -> Sharpness:
    """What was kept; nothing if there is no such file, or it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: (_number(entry["value"]), _number(entry["standard_error"]))
            for name, entry in values.items()
        }
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
