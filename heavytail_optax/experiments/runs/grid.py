"""A grid of runs: some variants of the settings, each with some seeds.

grid.json                 the variants, the seeds, and where and how they run
<name>/seed-<n>/          a run
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import USAGE
from ..files import make_directory, replace_file
from ..flat_settings import changed_settings, flat, from_flat, replaced
from ..measures.flatness import MeasureName
from ..methods import METHOD_NAMES, METHODS, MethodName
from ..presets import PRESETS, PresetName
from ..setting_rules import either
from ..settings import Settings
from ..storage.run_directory import (
    GRID,
    RunDirectoryError,
    RunPaths,
    grid_lock,
    is_free,
    read_json,
    understood,
)
from .options import THIS_MACHINE, Machine

_NAMED_GRIDS = 5


class Run(NamedTuple):
    """One method with one seed, in a directory of its own."""

    name: str  # of its row in tables: the method's, or another in a study
    directory: pathlib.Path
    settings: Settings
    measures: tuple[MeasureName, ...] = ()  # that the run is not done without

    @property
    def paths(self) -> RunPaths:
        """Its files."""
        return RunPaths.of(self.directory)

    @property
    def method(self) -> MethodName:
        """The name of its method."""
        return self.settings.method.method

    @property
    def label(self) -> str:
        """Name and seed, for people to read."""
        is_method = self.name == self.method
        name = METHODS[self.method].label if is_method else self.name
        return f"{name}, seed {self.settings.seed}"


class Grid(NamedTuple):
    """The variants and seeds that have been asked for, and what their runs share."""

    directory: pathlib.Path
    preset: PresetName
    variants: Mapping[str, Settings]  # by name; the seed in them does not count
    seeds: tuple[int, ...]
    is_measured: bool  # whether a run is done only when its `measures` are there
    machine: Machine = THIS_MACHINE
    data_sha256: str | None = None  # of all that runs are trained and tested on

    def runs(self) -> list[Run]:
        """All variants with the first seed, then with the next."""
        return [
            Run(
                name,
                self.directory / name / f"seed-{seed}",
                replaced(settings, seed=seed),
                settings.measuring.measures if self.is_measured else (),
            )
            for seed in self.seeds
            for name, settings in self.variants.items()
        ]

    def anywhere(self) -> "Grid":
        """The same with absolute directories, to be found from elsewhere."""
        machine = Machine.from_record(self.machine.record())
        return self._replace(directory=self.directory.absolute(), machine=machine)


def remarks(grid: Grid) -> list[str]:
    """What is to be known before the runs start, a line each."""
    variants = grid.variants.values()
    every = sorted({settings.evaluation_steps for settings in variants})
    lines = [
        f"All images are evaluated every {either(map('{:,}'.format, every))} steps."
    ]
    if min(every) >= max(settings.training.steps for settings in variants):
        once = "All images are evaluated only once, after the last step."
        lines = [f"{once} --eval-every gives curves."]
    methods = [settings.method for settings in variants]
    if outside := sorted({each.alpha for each in methods if each.is_outside_theory}):
        lines.append(
            f"Warning: the theory covers 1 < alpha < 2 only, and alpha is "
            f"{either(map('{:,}'.format, outside))}."
        )
    return lines


def variants_of(
    settings: Settings, methods: Iterable[MethodName]
) -> dict[str, Settings]:
    """The same settings with each method, under its name."""
    return {method: replaced(settings, method=method, seed=0) for method in methods}


def together(asked: Grid) -> Grid:
    """The grid asked for with all that is in its directory; nothing is written."""
    directory = asked.directory
    if not (directory / GRID).exists():
        if directory.exists() and not directory.is_dir():
            problem = f"{directory} is a file. Choose another directory."
            raise RunDirectoryError(problem, exit_status=USAGE)
        if not is_free(directory):
            raise RunDirectoryError(
                f"{directory} is not empty, and holds no grid. Choose another directory.",
                exit_status=USAGE,
            )
        return asked
    there = read_grid(directory)
    changed = _differences(there, asked)
    if changed:
        raise RunDirectoryError(
            f"The grid in {directory} has other settings: {'; '.join(changed)}. Choose "
            "another --directory.",
            exit_status=USAGE,
        )
    data = {there.data_sha256, asked.data_sha256} - {None}
    if len(data) > 1:
        raise RunDirectoryError(
            f"The grid in {directory} has other images or labels than those that were "
            "loaded. Give the --data-dir that it was made with, or another --directory.",
            exit_status=USAGE,
        )
    variants = {**there.variants, **asked.variants}
    # Methods come in the order of their list, all else as it was asked for.
    known = {name: variants[name] for name in METHOD_NAMES if name in variants}
    return asked._replace(
        variants={**known, **variants},
        seeds=tuple(sorted({*there.seeds, *asked.seeds})),
        is_measured=there.is_measured or asked.is_measured,
        data_sha256=next(iter(data), None),
    )


def record_grid(asked: Grid) -> Grid:
    """Makes a grid, or adds variants and seeds to the one that is there; all of it."""
    make_directory(asked.directory)
    # Another process may add to it at this moment.
    with grid_lock(asked.directory):
        grid = together(asked)
        settings = grid.variants.items()
        values = grid._asdict() | {
            "variants": {name: flat(each) for name, each in settings},
            "machine": grid.machine.record(),
        }
        del values["directory"]
        replace_file(grid.directory / GRID, json.dumps(values, indent=2) + "\n")
        return grid


def read_grid(directory: pathlib.Path) -> Grid:
    """The grid in a directory, with all variants and seeds asked for so far."""
    if not directory.is_dir():
        problem = f"There is no directory {directory}."
        raise RunDirectoryError(problem, exit_status=USAGE)
    path = directory / GRID
    if not path.exists():
        problem = f"{directory} holds no runs of heavytail train or reproduce"
        if others := _grids_near(directory):
            problem += f" itself. Give {either(map(str, others))}."
        else:
            problem += f": {path} is missing."
        raise RunDirectoryError(problem, exit_status=USAGE)
    values = read_json(path)
    with understood(path):
        grid = Grid(
            directory,
            values["preset"],
            {name: from_flat(each) for name, each in values["variants"].items()},
            tuple(values["seeds"]),
            bool(values["is_measured"]),
            Machine.from_record(values["machine"]),
            values["data_sha256"],
        )
        if not isinstance(grid.data_sha256, str | None):
            raise TypeError("`data_sha256` is no text")
        if not grid.runs():  # and every seed must be one
            raise ValueError("it has no run")
        if grid.preset not in PRESETS:
            raise ValueError(f"There is no preset {grid.preset!r}")
        return grid


def _grids_near(directory: pathlib.Path) -> list[pathlib.Path]:
    """Where runs are, if somebody gave a folder around them or one of their own."""
    below = sorted(path.parent for path in directory.glob(f"*/{GRID}"))
    if len(below) > _NAMED_GRIDS:
        below = [
            *below[:_NAMED_GRIDS],
            pathlib.Path(f"{len(below) - _NAMED_GRIDS} more"),
        ]
    absolute = directory.resolve()
    above = [each for each in absolute.parents[:2] if (each / GRID).exists()]
    return below or above


def _differences(there: Grid, asked: Grid) -> list[str]:
    """What keeps the two from being one grid, a line each."""
    changed = []
    if there.preset != asked.preset:
        changed.append(f"`preset` is {there.preset!r} there and {asked.preset!r} here")
    for name, settings in asked.variants.items():
        # A method that is new must have the settings of the others.
        others = there.variants if name in METHOD_NAMES else {}
        old = there.variants.get(name) or next(iter(others.values()), None)
        if old is not None:
            same = {"method": settings.method.method, "seed": settings.seed}
            changed += changed_settings(replaced(old, **same), settings)
    return list(dict.fromkeys(changed))
