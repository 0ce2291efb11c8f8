"""Measures of a finished run, one after the other, each kept as soon as it is done."""

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ..data.dataset import Split
from ..devices.parallel import replicate
from ..durable_files import set_aside_damaged
from ..measures.flatness import MEASURES, MeasureName
from ..measures.measure import (
    Arguments,
    Measured,
    MeasureOptions,
    TrainedNetwork,
    in_words,
    read_record,
    write_record,
)
from ..models.networks import build_network
from ..settings import Settings
from ..terminal import Progress
from ..training.batches import random_streams
from ..training.evaluation import mean_loss_and_error
from .grid import Run


def trained_network(
    settings: Settings,
    params: Any,
    train: Split,
    num_classes: int,
    mesh: Mesh | None = None,
) -> TrainedNetwork:
    """The network of a run, on all devices of the mesh."""
    shape, pixel_range = train.images.shape[1:], settings.data.pixel_range
    predict, _ = build_network(settings.model, shape, num_classes, pixel_range)
    loss, error = mean_loss_and_error(predict, mesh)
    key = replicate(mesh, random_streams(settings.seed).sharpness)
    train = replicate(mesh, jax.tree.map(jnp.asarray, train))
    return TrainedNetwork(loss, error, params, train, settings, key)


def measure_run(
    run: Run,
    network: TrainedNetwork,
    options: MeasureOptions,
    names: Sequence[MeasureName],
    progress: Progress,
) -> bool:
    """Measures what the run has not got yet; False if the user stopped it."""
    path = run.paths.measurements
    network = network.on_images(options.images_of(network.settings))
    record = read_record(path)
    if not record and path.exists():
        progress.note(
            f"{run.label}: {path} cannot be read, so all is measured anew. It is kept "
            f"as {set_aside_damaged(path)}."
        )
    for number, name in enumerate(names, start=1):
        if name in record:
            continue
        own = MEASURES[name].arguments(network.settings, options)
        shown = f"{name} ({number} of {len(names)})" if len(names) > 1 else name
        tick = functools.partial(progress.measuring, run.label, shown)
        started = time.monotonic()
        found = MEASURES[name].compute(network, own, tick)
        if found is None:
            return False
        arguments = _arguments(name, network.settings, options)
        record[name] = Measured(arguments, found, time.monotonic() - started)
        write_record(path, record)
        tick(1, 1)
    return True


def _arguments(
    name: MeasureName, settings: Settings, options: MeasureOptions
) -> Arguments:
    """All that a measure depends on besides the run."""
    images = options.images_of(settings)
    of_all = {"images": images} if images < settings.data.training_examples else {}
    return {**of_all, **MEASURES[name].arguments(settings, options)}


def forget(run: Run, names: Sequence[MeasureName]) -> None:
    """Drops what has been measured, so that it is measured again."""
    record = read_record(run.paths.measurements)
    kept = {name: each for name, each in record.items() if name not in names}
    if kept:
        write_record(run.paths.measurements, kept)
    elif record:
        run.paths.measurements.unlink()


def measured_otherwise(
    settings: Settings,
    record: Mapping[str, Measured],
    options: MeasureOptions,
    names: Sequence[MeasureName],
) -> list[str]:
    """A line on each measure that a record has in another way than is asked for."""
    lines = []
    for name in names:
        if name not in record:
            continue
        there = in_words(record[name].arguments)
        here = in_words(_arguments(name, settings, options))
        then = ", ".join(each for each in there if each not in here)
        now = ", ".join(each for each in here if each not in there)
        if then or now:
            lines.append(
                f"{name} was measured with {then}, not with {now}. "
                "It stays; --again measures anew"
            )
    return lines
