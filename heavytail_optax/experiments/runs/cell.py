"""One cell of a grid: trained, then measured."""

import functools
import pathlib
from collections.abc import Callable
from typing import Protocol

from heavytail_optax.experiments.data import Dataset
from heavytail_optax.experiments.measures import new_problem
from heavytail_optax.experiments.measures.measuring import MeasureObserver, measure_run
from heavytail_optax.experiments.measures.search import Search
from heavytail_optax.experiments.presets import PresetName
from heavytail_optax.experiments.runs.grid import Cell, read_cell
from heavytail_optax.experiments.runs.job import (
    check_job_data,
    load_job_data,
    record_job,
)
from heavytail_optax.experiments.runs.results import MethodResult
from heavytail_optax.experiments.runs.run import (
    ON_ONE_DEVICE,
    Observer,
    RunOptions,
    run_method,
)
from heavytail_optax.experiments.settings import (
    DataSettings,
    Settings,
    changed_settings,
)
from heavytail_optax.experiments.storage import run_directory
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError
from heavytail_optax.experiments.storage.run_lock import RunLock
from heavytail_optax.experiments.training.trainer import TrainState


class CellObserver(Observer, MeasureObserver, Protocol):
    """Is told what happens, to show it."""


def data_loader(data_dir: pathlib.Path | None) -> Callable[[Settings], Dataset]:
    """Loads the data of a cell, and has them at hand for the next one of its seed.

    Args:
      data_dir: where to look for the data's files first.

    Returns:
      A function, which raises `DataError` if the data are not there.
    """

    @functools.lru_cache(maxsize=1)
    def load(data: DataSettings, seed: int) -> Dataset:
        return load_job_data(data, seed, data_dir)

    return lambda settings: load(settings.data, settings.seed)


def run_cell(
    cell: Cell,
    preset: PresetName,
    command: str,
    observer: CellObserver,
    load: Callable[[Settings], Dataset],
    should_stop: Callable[[], bool] = lambda: False,
    options: RunOptions = ON_ONE_DEVICE,
) -> MethodResult:
    """Trains from where the cell is to the last step, and measures how flat it is.

    Args:
      cell: of a grid.
      preset: that its settings come from.
      command: as typed.
      observer: is told what happens.
      load: of `data_loader`.
      should_stop: asked after each chunk, and while measuring; the steps that are done
        are then saved.
      options: that do not change the numbers.

    Returns:
      "interrupted" if anything is left to do because `should_stop()` was true.

    Raises:
      DataError: if the data are not there.
      RunBusyError: if another process is at work on this cell.
      RunDirectoryError: if the directory cannot be used.
    """
    try:
        cell.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(
            f"The run directory {cell.directory} cannot be made: {error.strerror}."
        ) from error
    with RunLock(cell.directory):
        dataset = load(cell.settings)
        _check_or_record(cell, preset, command, observer, dataset)

        def measure(state: TrainState) -> None:
            problem = new_problem(
                cell.settings,
                state.params,
                dataset.train,
                dataset.num_classes,
                options.mesh,
            )
            measure_run(
                cell.directory,
                cell.label,
                problem,
                Search(),
                cell.settings.measuring.measures,
                observer,
                should_stop,
            )

        result = run_method(
            cell.directory,
            cell.settings,
            dataset,
            observer,
            should_stop,
            options,
            cell.label,
            measure,
        )
        if result.status == "finished" and not read_cell(cell).is_done:
            return result._replace(status="interrupted")
        return result


def _check_or_record(
    cell: Cell,
    preset: PresetName,
    command: str,
    observer: Observer,
    dataset: Dataset,
) -> None:
    """The run in the directory must be this one; a new one is written down."""
    directory = cell.directory
    if not run_directory.config_path(directory).exists():
        record_job(directory, preset, cell.settings, (cell.method,), dataset, command)
        return
    stored = run_directory.read_config(directory)["settings"]
    changed = changed_settings(stored, cell.settings)
    if changed:
        raise RunDirectoryError(
            f"The run in {directory} has other settings: {'; '.join(changed)}. Remove "
            "it, or choose another directory."
        )
    check_job_data(directory, dataset, observer)
