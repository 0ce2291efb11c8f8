"""One cell of a grid: trained, then measured."""

import pathlib
from collections.abc import Callable

from heavytail_optax.experiments import run_directory
from heavytail_optax.experiments.data import Dataset
from heavytail_optax.experiments.grid import Cell
from heavytail_optax.experiments.job import load_job_data, record_job, reload_job_data
from heavytail_optax.experiments.presets import PresetName
from heavytail_optax.experiments.results import MethodResult
from heavytail_optax.experiments.run import (
    ON_ONE_DEVICE,
    Observer,
    RunOptions,
    run_method,
)
from heavytail_optax.experiments.run_lock import RunLock
from heavytail_optax.experiments.sharpness import measure_sharpness, write_sharpness
from heavytail_optax.experiments.training import TrainState


def run_cell(
    cell: Cell,
    preset: PresetName,
    command: str,
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
    data_dir: pathlib.Path | None = None,
    options: RunOptions = ON_ONE_DEVICE,
) -> MethodResult:
    """Trains from where the cell is to the last step, and measures the sharpness.

    Args:
      cell: of a grid.
      preset: that its settings come from.
      command: as typed.
      observer: is told what happens.
      should_stop: asked after each chunk; what is done is then saved.
      data_dir: where to look for the data's files first.
      options: that do not change the numbers.

    Returns:
      "interrupted" if steps are left because `should_stop()` was true.

    Raises:
      DataError: if the data are not there.
      RunDirectoryError: if another process is at work on this cell, or the directory
        cannot be used.
    """
    cell.directory.mkdir(parents=True, exist_ok=True)
    with RunLock(cell.directory):
        dataset = _dataset(cell, preset, command, observer, data_dir)
        path = run_directory.sharpness_path(cell.directory, cell.method)

        def measure(state: TrainState) -> None:
            if path.exists():
                return
            observer.note(f"{cell.label}: measuring the sharpness")
            sharpness = measure_sharpness(
                cell.settings, state.params, dataset.train, dataset.num_classes
            )
            write_sharpness(path, sharpness)

        return run_method(
            cell.directory,
            cell.method,
            cell.settings,
            dataset,
            observer,
            should_stop,
            options,
            cell.label,
            measure,
        )


def _dataset(
    cell: Cell,
    preset: PresetName,
    command: str,
    observer: Observer,
    data_dir: pathlib.Path | None,
) -> Dataset:
    if run_directory.config_path(cell.directory).exists():
        return reload_job_data(cell.directory, observer, data_dir)
    dataset = load_job_data(cell.settings, data_dir)
    record_job(cell.directory, preset, cell.settings, dataset, command)
    return dataset
