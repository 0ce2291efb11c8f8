"""Measures of a finished run, one after the other, each kept as soon as it is done."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

import heavytail_optax as hto

from ..data.dataset import Split
from ..files import set_aside_damaged
from ..measures.flatness import MEASURES, MeasureName
from ..measures.measure import (
    Arguments,
    Measured,
    Measurement,
    MeasureOptions,
    Tick,
    TrainedNetwork,
    in_words,
    read_record,
    write_record,
)
from ..models.networks import build_network
from ..parallel import replicate
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
    network = network.on_images(options.images_of(network.settings))

    def compute(
        name: MeasureName, arguments: Arguments, tick: Tick
    ) -> Measurement | None:
        return MEASURES[name].compute(network, arguments, tick)

    found = run, run.paths.measurements, network.settings
    return _measure(*found, compute, options, names, progress)


def measure_layers(
    run: Run,
    network: TrainedNetwork,
    options: MeasureOptions,
    names: Sequence[MeasureName],
    progress: Progress,
) -> bool:
    """The same for each layer, the rest of the network held fixed."""
    layers = layers_of(network.on_images(options.images_of(network.settings)))

    def compute(
        name: MeasureName, arguments: Arguments, tick: Tick
    ) -> Measurement | None:
        scalars, remarks = {}, []
        for number, (layer, own) in enumerate(layers.items()):
            if tick(number, len(layers)):
                return None
            found = MEASURES[name].compute(own, arguments, lambda *_: False)
            if found is None:
                return None
            scalars |= {f"{layer}/{k}": each for k, each in found.scalars.items()}
            remarks += [f"{layer} is {found.remark}"] if found.remark else []
        return Measurement(scalars, remark="; ".join(remarks))

    found = run, run.paths.layers, network.settings
    return _measure(*found, compute, options, names, progress)


def layers_of(network: TrainedNetwork) -> dict[str, TrainedNetwork]:
    """The network as a function of each layer alone, by the name of the layer."""
    args = {"args": (network.train,)}
    losses = hto.flatness.by_part(network.loss, network.params, **args)
    errors = hto.flatness.by_part(network.error, network.params, **args)
    return {
        str(layer): dataclasses.replace(
            network,
            loss=part.loss_fn,
            error=errors[layer].loss_fn,
            params=part.params,
            rest=part.args[:-1],
        )
        for layer, part in losses.items()
    }


def _measure(
    run: Run,
    path: pathlib.Path,
    settings: Settings,
    compute: Callable[[MeasureName, Arguments, Tick], Measurement | None],
    options: MeasureOptions,
    names: Sequence[MeasureName],
    progress: Progress,
) -> bool:
    record = read_record(path)
    if not record and path.exists():
        progress.note(
            f"{run.label}: {path} cannot be read, so all is measured anew. It is kept "
            f"as {set_aside_damaged(path)}."
        )
    for number, name in enumerate(names, start=1):
        if name in record:
            continue
        own = MEASURES[name].arguments(settings, options)
        shown = f"{name} ({number} of {len(names)})" if len(names) > 1 else name
        tick = functools.partial(progress.measuring, run.label, shown)
        started = time.monotonic()
        found = compute(name, own, tick)
        if found is None:
            return False
        arguments = _arguments(name, settings, options)
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


def forget(path: pathlib.Path, names: Sequence[MeasureName]) -> None:
    """Drops what has been measured, so that it is measured again."""
    record = read_record(path)
    kept = {name: each for name, each in record.items() if name not in names}
    if kept:
        write_record(path, kept)
    elif record:
        path.unlink()


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
