"""Measures of a finished run, one after the other, each kept as soon as it is done."""

import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ..data.dataset import Split
from ..devices.parallel import replicate
from ..measure_names import MEASURES, MeasureName
from ..models.networks import build_network
from ..settings import Settings
from ..storage.durable_files import set_aside_damaged
from ..training.evaluation import mean_loss_and_error
from ..training.random_streams import random_streams
from .measure import (
    Arguments,
    Measured,
    MeasureOptions,
    TrainedNetwork,
    read_record,
    same_arguments,
    write_record,
)


class MeasureObserver(Protocol):
    """Callbacks that report progress to the user."""

    def measuring(self, label: str, measure: str, done: int, total: int) -> None:
        """So many parts of a measure are done, of how many."""

    def note(self, text: str) -> None:
        """Something the user should know."""


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
    path: pathlib.Path,
    label: str,
    network: TrainedNetwork,
    options: MeasureOptions,
    names: Sequence[MeasureName],
    observer: MeasureObserver,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Measures what is not yet in the file at `path`; False if `should_stop()` was true."""
    record = read_record(path)
    if not record and path.exists():
        damaged = set_aside_damaged(path)
        observer.note(
            f"{label}: {path} cannot be read, so all is measured anew. It is kept as "
            f"{damaged}."
        )
    for number, name in enumerate(names, start=1):
        arguments = MEASURES[name].arguments(network.settings, options)
        known = record.get(name)
        if _is_current(known, arguments):
            continue
        if known is not None and not known.to_repeat:
            observer.note(
                f"{label}: {name} is measured anew, as it was measured with "
                f"{_difference(known.arguments, arguments)}"
            )
        shown = f"{name} ({number} of {len(names)})" if len(names) > 1 else name
        show = functools.partial(observer.measuring, label, shown)

        def tick(
            done: int, total: int, show: Callable[[int, int], None] = show
        ) -> bool:
            if should_stop():
                return True
            show(done, total)
            return False

        started = time.monotonic()
        found = MEASURES[name].compute(network, arguments, tick)
        if found is None:
            return False
        record[name] = Measured(arguments, found, time.monotonic() - started)
        write_record(path, record)
        show(1, 1)
    return True


def ask_again(path: pathlib.Path, names: Sequence[MeasureName]) -> None:
    """Marks what is there to be measured again; reports show it until then."""
    record = read_record(path)
    asked = {
        name: record[name]._replace(to_repeat=True) for name in names if name in record
    }
    if asked:
        write_record(path, {**record, **asked})


def is_measured(
    path: pathlib.Path,
    settings: Settings,
    options: MeasureOptions,
    names: Sequence[MeasureName],
) -> bool:
    """Whether `measure_run` would find everything there."""
    record = read_record(path)
    return all(
        _is_current(record.get(name), MEASURES[name].arguments(settings, options))
        for name in names
    )


def _is_current(known: Measured | None, arguments: Arguments) -> bool:
    return (
        known is not None
        and not known.to_repeat
        and same_arguments(known.arguments, arguments)
    )


def _difference(then: Arguments, now: Arguments) -> str:
    """In words: "target 0.2 instead of 0.1"."""
    changed = [
        f"{name} {then.get(name)} instead of {now.get(name)}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
    return ", ".join(changed)
