"""A job: each method in turn, with its metrics and checkpoints kept in a directory."""

import math
import pathlib
from collections.abc import Callable
from typing import Protocol

import jax

from heavytail_optax.experiments import run_directory
from heavytail_optax.experiments.checkpoints import Checkpoints
from heavytail_optax.experiments.data import Dataset, describe_dataset, load_dataset
from heavytail_optax.experiments.methods import METHODS, MethodName
from heavytail_optax.experiments.metrics_log import (
    append_metrics,
    drop_metrics_after,
    read_metrics,
)
from heavytail_optax.experiments.plot import plot_training
from heavytail_optax.experiments.presets import PRESETS, PresetName
from heavytail_optax.experiments.random_streams import random_streams
from heavytail_optax.experiments.results import MethodResult
from heavytail_optax.experiments.run_directory import RunDirectoryError
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.training import Metrics, build_trainer, train


class Observer(Protocol):
    """Is told what happens, to show it."""

    def start(self, method: MethodName, metrics: Metrics | None) -> None:
        """A method starts, from the step of `metrics` where it goes on."""

    def advance(self, method: MethodName, metrics: Metrics) -> None:
        """A chunk of steps is done and saved."""

    def note(self, text: str) -> None:
        """Something the user should know."""


def load_job_data(settings: Settings) -> Dataset:
    """The data of a job, with the random labels that its seed sets.

    Args:
      settings: of the job.

    Raises:
      DataError: if the settings do not fit the data.
    """
    return load_dataset(settings, random_streams(settings.seed).labels)


def record_job(
    directory: pathlib.Path,
    preset: PresetName,
    settings: Settings,
    dataset: Dataset,
    command: str,
) -> None:
    """Writes the directory's config.json.

    Args:
      directory: of the new job, empty.
      preset: that the settings come from.
      settings: of the job.
      dataset: of the job.
      command: as typed.
    """
    run_directory.write_config(
        directory,
        preset=preset,
        settings=settings,
        sources=PRESETS[preset].sources_of(settings),
        data=describe_dataset(dataset),
        command=command,
        device=_device(),
    )


def reload_job_data(directory: pathlib.Path, observer: Observer) -> Dataset:
    """The data of an earlier job.

    Args:
      directory: of the job.
      observer: is told if versions or the device are others than then.

    Returns:
      The data, the same as then.

    Raises:
      RunDirectoryError: if there is no such job, or its data are others than then.
    """
    config = run_directory.read_config(directory)
    dataset = load_job_data(config["settings"])
    if describe_dataset(dataset) != config["data"]:
        raise RunDirectoryError(
            f"The labels are not those that the run in {directory} started with."
        )
    now = {**run_directory.versions(), "device": _device()}
    then = {**config["versions"], "device": config["device"]}
    changed = [f"{k} {then.get(k)} -> {now[k]}" for k in now if now[k] != then.get(k)]
    if changed:
        observer.note(
            "Going on with other versions than before, so the last digits may differ: "
            + ", ".join(changed)
        )
    return dataset


def run_job(
    directory: pathlib.Path,
    settings: Settings,
    dataset: Dataset,
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[MethodResult]:
    """Trains with each method from where it is to the last step, then draws the picture.

    Args:
      directory: of the job, with its config.json.
      settings: of the job.
      dataset: of the job.
      observer: is told what happens.
      should_stop: asked after each chunk, when all is saved.

    Returns:
      One result a method, in the order of `settings.method`; "interrupted" for those
      that have steps left because `should_stop()` was true. A method that diverges does
      not keep the others from their turn.
    """
    results = [
        _run_method(directory, method, settings, dataset, observer, should_stop)
        for method in settings.method
    ]
    if any(result.history for result in results):
        path = run_directory.plot_path(directory)
        plot_training(path, results, settings, dataset.test.labels.size)
    return results


def _run_method(
    directory: pathlib.Path,
    method: MethodName,
    settings: Settings,
    dataset: Dataset,
    observer: Observer,
    should_stop: Callable[[], bool],
) -> MethodResult:
    log = run_directory.metrics_path(directory, method)
    if should_stop():
        history = read_metrics(log)
        done = bool(history) and history[-1].step == settings.steps
        finite = done and math.isfinite(history[-1].train_loss)
        status = "finished" if finite else "interrupted"
        return MethodResult(method, status, tuple(history))
    image_shape = dataset.train.images.shape[1:]
    trainer = build_trainer(settings, method, image_shape, dataset.num_classes)
    state = trainer.init()
    with Checkpoints(run_directory.checkpoints_path(directory, method)) as checkpoints:
        saved = checkpoints.restore_latest(state)
        state = state if saved is None else saved
        history = drop_metrics_after(log, int(state.step))
        observer.start(method, history[-1] if history else None)
        seconds = history[-1].seconds if history else 0.0
        for chunk in train(settings, dataset, trainer, state, seconds):
            append_metrics(log, chunk.metrics)
            history.append(chunk.metrics)
            if chunk.non_finite is not None:
                step, value = chunk.non_finite
                observer.note(
                    f"{METHODS[method].label} diverged: its loss is {value} at step "
                    f"{step:,}. No more steps are taken with it."
                )
                return MethodResult(method, "diverged", tuple(history), step)
            # After the metrics: a run killed in between repeats the chunk.
            checkpoints.save(chunk.metrics.step, chunk.state)
            observer.advance(method, chunk.metrics)
            if should_stop() and chunk.metrics.step < settings.steps:
                return MethodResult(method, "interrupted", tuple(history))
    return MethodResult(method, "finished", tuple(history))


def _device() -> str:
    return jax.devices()[0].device_kind
