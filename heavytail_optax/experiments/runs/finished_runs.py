"""The runs in a directory of `heavytail train` or `heavytail reproduce`."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from heavytail_optax.experiments.data import Dataset
from heavytail_optax.experiments.runs.grid import (
    Cell,
    grid_path,
    read_cell,
    read_grid,
)
from heavytail_optax.experiments.settings import replaced
from heavytail_optax.experiments.storage import run_directory
from heavytail_optax.experiments.storage.checkpoints import restore_latest
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError
from heavytail_optax.experiments.training.random_streams import random_streams
from heavytail_optax.experiments.training.trainer import build_trainer


def runs_in(directory: pathlib.Path) -> list[Cell]:
    """All runs of a directory, finished or not, one for each method and seed.

    Args:
      directory: that `heavytail train` or `heavytail reproduce` made.

    Raises:
      RunDirectoryError: if it is neither, or not understood.
    """
    if not directory.is_dir():
        raise RunDirectoryError(f"There is no directory {directory}.")
    if grid_path(directory).exists():
        return list(read_grid(directory).cells())
    if not run_directory.config_path(directory).exists():
        raise RunDirectoryError(
            f"{directory} holds neither a run of heavytail train (no config.json) nor a "
            "grid of heavytail reproduce (no grid.json)."
        )
    config = run_directory.read_config(directory)
    return [
        Cell(directory, replaced(config["settings"], method=method))
        for method in config["methods"]
    ]


def asked_runs(
    directory: pathlib.Path,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> tuple[list[Cell], list[str]]:
    """The finished runs that are asked for, and what to say about the others.

    Args:
      directory: that `heavytail train` or `heavytail reproduce` made.
      methods: of the runs; None for all.
      seeds: of the runs; None for all.

    Raises:
      RunDirectoryError: if none is finished, or there is no such run.
    """
    runs = runs_in(directory)
    asked = [
        cell
        for cell in runs
        if (methods is None or cell.method in methods)
        and (seeds is None or cell.settings.seed in seeds)
    ]
    if not asked:
        there = ", ".join(cell.label for cell in runs) or "no run"
        raise RunDirectoryError(f"No such run in {directory}. There is: {there}.")
    outcomes = [(cell, read_cell(cell)) for cell in asked]
    finished = [cell for cell, result in outcomes if result.status == "finished"]
    others = [
        f"{cell.label}: {result.outcome}"
        for cell, result in outcomes
        if result.status != "finished"
    ]
    if not finished:
        raise RunDirectoryError(
            f"No run in {directory} is finished: {'; '.join(others)}."
        )
    return finished, others


def final_params(cell: Cell, dataset: Dataset, note: Callable[[str], None]) -> Any:
    """The parameters after the last step of a finished run.

    Args:
      cell: the run, locked by this process.
      dataset: of the run.
      note: is told if a checkpoint is damaged.

    Raises:
      RunDirectoryError: if they are not there.
    """
    settings = cell.settings
    shape = dataset.train.images.shape[1:]
    trainer = build_trainer(settings, shape, dataset.num_classes)
    path = run_directory.checkpoints_path(cell.directory, cell.method)
    state = restore_latest(path, trainer.init(random_streams(settings.seed)), note)
    if state is None or int(state.step) != settings.training.steps:
        raise RunDirectoryError(
            f"The checkpoint of the last step, {settings.training.steps:,}, is not in {path}. Go "
            "on with the run, which makes it again."
        )
    return state.params
