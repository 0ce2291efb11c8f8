"""A grid of methods and seeds: its cells are runs in directories of their own.

grid.json                 preset and settings, which all cells share
<method>/seed-<n>/        the cell: a run directory, as `heavytail train` makes it
"""

import contextlib
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from heavytail_optax.experiments.measure_names import SCALARS
from heavytail_optax.experiments.methods import (
    METHOD_NAMES,
    MethodName,
)
from heavytail_optax.experiments.presets import PRESETS, PresetName
from heavytail_optax.experiments.runs.cell_result import CellResult, CellStatus
from heavytail_optax.experiments.runs.summary import truncated_share
from heavytail_optax.experiments.settings import (
    Settings,
    changed_settings,
    from_dict,
    replaced,
)
from heavytail_optax.experiments.storage import run_directory
from heavytail_optax.experiments.storage.durable_files import replace_file
from heavytail_optax.experiments.storage.metrics_log import read_metrics
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError
from heavytail_optax.experiments.storage.run_lock import RunLock
from heavytail_optax.experiments.storage.sharpness_file import read_sharpness
from heavytail_optax.experiments.training.batches import examples_per_step
from heavytail_optax.experiments.training.trainer import Metrics


class Cell(NamedTuple):
    """One run of a grid: its place, and settings with one method and its seed."""

    directory: pathlib.Path
    settings: Settings

    @property
    def method(self) -> MethodName:
        """The one method."""
        return self.settings.method.method

    @property
    def label(self) -> str:
        """Method and seed, for people to read."""
        return f"{self.settings.method.kind.label}, seed {self.settings.seed}"


class Grid(NamedTuple):
    """The methods and seeds that have been asked for, and what their runs share."""

    directory: pathlib.Path
    preset: PresetName
    settings: Settings
    methods: tuple[MethodName, ...]
    seeds: tuple[int, ...]

    def cells(self) -> Iterator[Cell]:
        """All cells: the methods with the first seed, then with the next."""
        for seed in self.seeds:
            for method in self.methods:
                settings = replaced(self.settings, method=method, seed=seed)
                yield Cell(self.directory / method / f"seed-{seed}", settings)


def new_grid(
    directory: pathlib.Path,
    preset: PresetName,
    settings: Settings,
    methods: tuple[MethodName, ...],
    seeds: int,
) -> Grid:
    """The grid of what is asked for; nothing is read or written.

    Args:
      directory: of the grid.
      preset: that the settings come from.
      settings: with the first seed; the method does not count.
      methods: one or more.
      seeds: how many seeds.
    """
    numbers = tuple(range(settings.seed, settings.seed + seeds))
    return Grid(directory, preset, settings, methods, numbers)


def check_grid(asked: Grid) -> Grid:
    """Compares a grid with what is in its directory, and changes nothing.

    Args:
      asked: the grid that is asked for.

    Returns:
      The grid with the methods and seeds asked for now or earlier.

    Raises:
      RunDirectoryError: if there is another grid or anything else in the directory.
    """
    directory = asked.directory
    if not grid_path(directory).exists():
        _check_is_free(directory)
        return asked
    there = read_grid(directory)
    own = {"method": there.settings.method.method, "seed": there.settings.seed}
    changed = changed_settings(there.settings, replaced(asked.settings, **own))
    if there.preset != asked.preset:
        changed.insert(
            0, f"`preset` is {there.preset!r} there and {asked.preset!r} here"
        )
    if changed:
        raise RunDirectoryError(
            f"The grid in {directory} has other settings: {'; '.join(changed)}. Choose "
            "another --directory."
        )
    together = {*there.methods, *asked.methods}
    return there._replace(
        methods=tuple(name for name in METHOD_NAMES if name in together),
        seeds=tuple(sorted({*there.seeds, *asked.seeds})),
    )


def record_grid(asked: Grid) -> None:
    """Makes a grid, or adds methods and seeds to the one that is there.

    Args:
      asked: the grid that is asked for.

    Raises:
      RunDirectoryError: if there is another grid or anything else in the directory, or
        it cannot be written to.
    """
    directory = asked.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Another process may add to it at this moment.
        with RunLock(directory, wait_seconds=10.0):
            _write(check_grid(asked))
    except OSError as error:
        raise RunDirectoryError(
            f"The grid cannot be written to {directory}: {error.strerror}. Choose "
            "another --directory."
        ) from error


def _check_is_free(directory: pathlib.Path) -> None:
    lock_files = {
        run_directory.lock_path(directory),
        run_directory.holder_path(directory),
    }
    problem = None
    if directory.exists() and not directory.is_dir():
        problem = "is a file"
    elif directory.is_dir() and set(directory.iterdir()) - lock_files:
        problem = "is not empty, and holds no grid"
    if problem is not None:
        raise RunDirectoryError(f"{directory} {problem}. Choose another --directory.")


def read_grid(directory: pathlib.Path) -> Grid:
    """The grid in a directory, with all methods and seeds asked for so far.

    Args:
      directory: of the grid.

    Raises:
      RunDirectoryError: if there is none, or it is not understood.
    """
    path = grid_path(directory)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        settings = from_dict(values["settings"])
        seeds = tuple(values["seeds"])
        for seed in seeds:
            replaced(settings, seed=seed)
        methods = tuple(values["methods"])
        for method in methods:
            replaced(settings, method=method)
        grid = Grid(directory, values["preset"], settings, methods, seeds)
        if grid.preset not in PRESETS:
            raise ValueError(f"There is no preset {grid.preset!r}.")
    except FileNotFoundError as error:
        problem = f"There is no grid in {directory}: {path} is missing."
        raise RunDirectoryError(problem) from error
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunDirectoryError(
            f"{path} is not understood: {error}. Choose another directory, or put the "
            "file back."
        ) from error
    return grid


def read_cells(directory: pathlib.Path) -> tuple[PresetName, list[CellResult]]:
    """What the runs of a grid have come to.

    Args:
      directory: of the grid.

    Returns:
      Its preset, and one result for each method and seed asked for so far.

    Raises:
      RunDirectoryError: if there is no grid, or it is not understood.
    """
    grid = read_grid(directory)
    return grid.preset, [read_cell(cell) for cell in grid.cells()]


def read_cell(cell: Cell) -> CellResult:
    """What a run has come to."""
    history = read_metrics(run_directory.metrics_path(cell.directory, cell.method))
    data: dict[str, Any] = {}
    # One that is missing or damaged says nothing about the metrics.
    with contextlib.suppress(RunDirectoryError):
        data = run_directory.read_config(cell.directory)["data"]
    settings = cell.settings
    result = CellResult(
        method=cell.method,
        seed=settings.seed,
        status=_status(history, settings),
        step=history[-1].step if history else 0,
        steps=settings.training.steps,
        examples_per_step=examples_per_step(settings),
        asked_measures=tuple(
            scalar for name in settings.measuring.measures for scalar in SCALARS[name]
        ),
        test_images=data.get("test_images"),
        classes=data.get("classes"),
    )
    if not history:
        return result
    last = history[-1]
    path = run_directory.sharpness_path(cell.directory, cell.method)
    return result._replace(
        train_accuracy=last.train_accuracy,
        test_accuracy=last.test_accuracy,
        train_loss=last.train_loss,
        truncated=truncated_share(history),
        seconds=last.seconds,
        sharpness=read_sharpness(path),
    )


def unfinished(grid: Grid) -> list[Cell]:
    """The cells where something is left to do."""
    return [cell for cell in grid.cells() if not read_cell(cell).is_done]


def _status(history: Sequence[Metrics], settings: Settings) -> CellStatus:
    if not history:
        return "missing"
    last = history[-1]
    # As in `training`, which stops at the first of these that is not finite.
    if not (math.isfinite(last.batch_loss) and math.isfinite(last.train_loss)):
        return "diverged"
    return "finished" if last.step == settings.training.steps else "interrupted"


def grid_path(directory: pathlib.Path) -> pathlib.Path:
    """Where a grid says what it is."""
    return directory / "grid.json"


def _write(grid: Grid) -> None:
    values = {
        "preset": grid.preset,
        "settings": dataclasses.asdict(grid.settings),
        "methods": grid.methods,
        "seeds": grid.seeds,
    }
    replace_file(grid_path(grid.directory), json.dumps(values, indent=2) + "\n")
