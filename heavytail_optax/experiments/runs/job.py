"""A job: each method in turn, with its metrics and checkpoints kept in a directory."""

import pathlib
from collections.abc import Callable

import jax

from heavytail_optax.experiments.data import (
    Dataset,
    describe_dataset,
    is_same_data,
    load_dataset,
)
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.methods import MethodName
from heavytail_optax.experiments.presets import PRESETS, PresetName
from heavytail_optax.experiments.runs.job_figure import plot_training
from heavytail_optax.experiments.runs.results import MethodResult
from heavytail_optax.experiments.runs.run import (
    ON_ONE_DEVICE,
    Observer,
    RunOptions,
    run_method,
)
from heavytail_optax.experiments.settings import DataSettings, Settings, replaced
from heavytail_optax.experiments.storage import run_directory
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError
from heavytail_optax.experiments.training.random_streams import random_streams


def load_job_data(
    settings: DataSettings, seed: int, data_dir: pathlib.Path | None = None
) -> Dataset:
    """The data of a job, with the random labels that its seed sets.

    Args:
      settings: which images.
      seed: of the job.
      data_dir: where to look for the data's files first.

    Raises:
      DataError: if there are no such data, or the settings do not fit them.
    """
    return load_dataset(settings, random_streams(seed).labels, data_dir)


def record_job(
    directory: pathlib.Path,
    preset: PresetName,
    settings: Settings,
    methods: tuple[MethodName, ...],
    dataset: Dataset,
    command: str,
) -> None:
    """Writes the directory's config.json.

    Args:
      directory: of the new job, empty.
      preset: that the settings come from.
      settings: of the job, with the first of its methods.
      methods: trained with, one after the other.
      dataset: of the job.
      command: as typed.
    """
    run_directory.write_config(
        directory,
        preset=preset,
        settings=settings,
        methods=methods,
        sources=PRESETS[preset].sources_of(settings),
        data=describe_dataset(dataset),
        command=command,
        device=_device(),
    )


def reload_job_data(
    directory: pathlib.Path,
    observer: Observer,
    data_dir: pathlib.Path | None = None,
) -> Dataset:
    """The data of an earlier job.

    Args:
      directory: of the job.
      observer: is told if versions or the device are others than then.
      data_dir: where to look for the data's files first.

    Returns:
      The data, the same as then.

    Raises:
      DataError: if they are no longer there.
      RunDirectoryError: if there is no such job, or its data are others than then.
    """
    settings = run_directory.read_config(directory)["settings"]
    dataset = load_job_data(settings.data, settings.seed, data_dir)
    check_job_data(directory, dataset, observer)
    return dataset


def check_job_data(
    directory: pathlib.Path, dataset: Dataset, observer: Observer
) -> None:
    """Compares the data with those that an earlier job started with.

    Args:
      directory: of the job.
      dataset: loaded now.
      observer: is told if versions or the device are others than then.

    Raises:
      RunDirectoryError: if there is no such job, or its data are others than then.
    """
    config = run_directory.read_config(directory)
    if not is_same_data(describe_dataset(dataset), config["data"]):
        raise RunDirectoryError(
            f"The images or labels are not those that the run in {directory} started "
            "with."
        )
    now = {**run_directory.versions(), "device": _device()}
    then = {**config["versions"], "device": config["device"]}
    changed = [f"{k} {then.get(k)} -> {now[k]}" for k in now if now[k] != then.get(k)]
    if changed:
        observer.note(
            "Going on with other versions than before, so the last digits may differ: "
            + ", ".join(changed)
        )


def check_batch_size(batch_size: int, dataset: Dataset) -> None:
    """A batch is drawn without replacement.

    Args:
      batch_size: images in it.
      dataset: that it is drawn from.

    Raises:
      JobError: if there are not so many training images.
    """
    number = dataset.train.labels.size
    if batch_size > number:
        raise JobError(
            f"The `batch_size` option must be at most {number}, the number of training "
            f"images. Got {batch_size} instead."
        )


def run_job(
    directory: pathlib.Path,
    settings: Settings,
    methods: tuple[MethodName, ...],
    dataset: Dataset,
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
    options: RunOptions = ON_ONE_DEVICE,
) -> list[MethodResult]:
    """Trains with each method from where it is to the last step, then draws the picture.

    Args:
      directory: of the job, with its config.json.
      settings: of the job; its method does not count.
      methods: to train with.
      dataset: of the job.
      observer: is told what happens.
      should_stop: asked after each chunk; what is done is then saved.
      options: that do not change the numbers.

    Returns:
      One result a method, in the order of `methods`; "interrupted" for those
      that have steps left because `should_stop()` was true. A method that diverges does
      not keep the others from their turn.
    """
    results = [
        run_method(
            directory,
            replaced(settings, method=method),
            dataset,
            observer,
            should_stop,
            options,
        )
        for method in methods
    ]
    if any(result.history for result in results) and options.writes:
        path = run_directory.plot_path(directory)
        plot_training(path, results, settings, dataset.test.labels.size)
    return results


def _device() -> str:
    return jax.devices()[0].device_kind
