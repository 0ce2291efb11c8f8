"""Sharpness of a finished run, kept beside its metrics."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

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


def measure_sharpness(
    settings: Settings,
    params: Any,
    train: Split,
    num_classes: int,
    mesh: Mesh | None = None,
) -> Sharpness:
    """The measures of the paper's tables, on the whole training set.

    Args:
      settings: of the run.
      params: after the last step.
      train: the training images with the labels that were trained on.
      num_classes: number of classes.
      mesh: of the devices that the images are spread over, with `params` on each of
        them; None for one device.

    Returns:
      Name of the measure -> its value and the standard error of its own sampling. NaN
      where the parameters are not finite.
    """
    shared = dataclasses.replace(settings, methods=("sgd",), seed=0)
    loss, sharpness = _compiled(shared, train.images.shape[1:], num_classes, mesh)
    train = replicate(mesh, train)
    if not math.isfinite(float(loss(params, train))):
        return {"expected_sharpness": (math.nan, math.nan)}
    key = random_streams(settings.seed).sharpness
    mean, error = sharpness(params, train, key)
    return {"expected_sharpness": (float(mean), float(error))}


@functools.lru_cache(maxsize=4)
def _compiled(
    settings: Settings,
    image_shape: tuple[int, ...],
    num_classes: int,
    mesh: Mesh | None,
) -> tuple[Callable[..., jax.Array], Callable[..., ExpectedSharpness]]:
    """The loss on all images and the expected sharpness, shared by the runs of a grid."""
    predict, _ = build_model(settings, image_shape, num_classes)
    predict = spread(mesh, predict)

    def loss(params: Any, train: Split) -> jax.Array:
        return evaluate(predict, params, train).loss

    def sharpness(params: Any, train: Split, key: jax.Array) -> ExpectedSharpness:
        return expected_sharpness(
            loss,
            params,
            key,
            args=(train,),
            stddev=settings.sharpness_stddev,
            num_samples=settings.sharpness_samples,
            samples_at_once=1,
        )

    return jax.jit(loss), jax.jit(sharpness)


def write_sharpness(path: pathlib.Path, sharpness: Sharpness) -> None:
    """Keeps the measures as JSON, all at once or not at all."""
    values = {
        name: {"value": value, "standard_error": error}
        for name, (value, error) in sharpness.items()
    }
    replace_file(path, json.dumps(values, indent=2) + "\n")


def read_sharpness(path: pathlib.Path) -> Sharpness:
    """What was kept; nothing if there is no such file."""
    if not path.exists():
        return {}
    values = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: (entry["value"], entry["standard_error"])
        for name, entry in values.items()
    }
