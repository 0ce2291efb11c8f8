"""The finished runs of a directory, for what is measured after training."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from heavytail_optax.experiments.data.dataset import Dataset
from heavytail_optax.experiments.runs.grid import Grid, read_grid
from heavytail_optax.experiments.runs.result import read_result
from heavytail_optax.experiments.runs.run import Run
from heavytail_optax.experiments.storage.checkpoints import restore_latest
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError
from heavytail_optax.experiments.training.random_streams import random_streams
from heavytail_optax.experiments.training.trainer import build_trainer


def asked_runs(
    directory: pathlib.Path,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> tuple[Grid, list[Run], list[str]]:
    """The grid, the finished runs that are asked for, and what to say of the others."""
    grid = read_grid(directory)
    asked = [
        run
        for run in grid.runs()
        if (methods is None or run.method in methods)
        and (seeds is None or run.settings.seed in seeds)
    ]
    if not asked:
        there = ", ".join(run.label for run in grid.runs()) or "no run"
        raise RunDirectoryError(f"No such run in {directory}. There is: {there}.")
    results = {run: read_result(run) for run in asked}
    finished = [run for run, result in results.items() if result.status == "finished"]
    others = [
        f"{run.label}: {result.how_it_ended}"
        for run, result in results.items()
        if result.status != "finished"
    ]
    if not finished:
        raise RunDirectoryError(
            f"No run in {directory} is finished: {'; '.join(others)}."
        )
    return grid, finished, others


def final_params(run: Run, dataset: Dataset, note: Callable[[str], None]) -> Any:
    """The parameters after the last step of a finished run, locked by this process."""
    settings, steps = run.settings, run.settings.training.steps
    shape = dataset.train.images.shape[1:]
    trainer = build_trainer(settings, shape, dataset.num_classes)
    like = trainer.init(random_streams(settings.seed))
    state = restore_latest(run.paths.checkpoints, like, note)
    if state is None or int(state.step) != steps:
        raise RunDirectoryError(
            f"The checkpoint of the last step, {steps:,}, is not in "
            f"{run.paths.checkpoints}. Go on with the run, which makes it again."
        )
    return state.params
