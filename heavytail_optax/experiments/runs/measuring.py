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
    record = read_record(path)
    if not record and path.exists():
        progress.note(
            f"{run.label}: {path} cannot be read, so all is measured anew. It is kept "
            f"as {set_aside_damaged(path)}."
        )
    for number, name in enumerate(names, start=1):
        arguments = MEASURES[name].arguments(network.settings, options)
        known = record.get(name)
        if _is_current(known, arguments):
            continue
        if known is not None:
            now = in_words(arguments)
            then = [each for each in in_words(known.arguments) if each not in now]
            progress.note(
                f"{run.label}: {name} was measured in another way ({', '.join(then)}). "
                "It is measured again."
            )
        shown = f"{name} ({number} of {len(names)})" if len(names) > 1 else name
        tick = functools.partial(progress.measuring, run.label, shown)
        started = time.monotonic()
        found = MEASURES[name].compute(network, arguments, tick)
        if found is None:
            return False
        record[name] = Measured(arguments, found, time.monotonic() - started)
        write_record(path, record)
        tick(1, 1)
    return True


def forget(run: Run, names: Sequence[MeasureName]) -> None:
    """Drops what has been measured, so that it is measured again."""
    record = read_record(run.paths.measurements)
    kept = {name: each for name, each in record.items() if name not in names}
    if kept:
        write_record(run.paths.measurements, kept)
    elif record:
        run.paths.measurements.unlink()


def is_measured(
    settings: Settings,
    record: Mapping[str, Measured],
    options: MeasureOptions,
    names: Sequence[MeasureName],
) -> bool:
    """Whether a record has all that `measure_run` measures."""
    return all(
        _is_current(record.get(name), MEASURES[name].arguments(settings, options))
        for name in names
    )


def _is_current(known: Measured | None, arguments: Arguments) -> bool:
    return known is not None and in_words(known.arguments) == in_words(arguments)
