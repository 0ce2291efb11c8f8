"""The directory of a run or a grid: a new one is claimed, or refused with what to do."""

import itertools
import os
import pathlib
import shlex

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.storage.durable_files import (
    make_directory,
    partial_path,
)
from heavytail_optax.experiments.storage.run_paths import (
    grid_path,
    holder_path,
    lock_path,
)


class RunDirectoryError(JobError):
    """The directory cannot be used as asked; the message says what to do."""


def make_run_directory(directory: pathlib.Path) -> None:
    """Makes the directory of a run if it is not there."""
    try:
        make_directory(directory)
    except OSError as error:
        raise RunDirectoryError(
            f"The run directory {directory} cannot be made: {error.strerror}."
        ) from error


def is_free(directory: pathlib.Path) -> bool:
    """Whether nothing is there but what a process leaves that was killed at its start."""
    leftovers = {
        lock_path(directory),
        holder_path(directory),
        partial_path(grid_path(directory)),
    }
    return not directory.exists() or not set(directory.iterdir()) - leftovers


def claim(directory: pathlib.Path) -> None:
    """Makes a new directory, or takes an empty one."""
    make_run_directory(directory)
    if not os.access(directory, os.W_OK):
        raise RunDirectoryError(f"The run directory {directory} is not writable.")
    if is_free(directory):
        return
    way_on = "Choose another --run-dir."
    if grid_path(directory).exists():
        resume = shlex.join(["--resume", str(directory)])
        way_on = f"Go on with it by {resume}, or choose another --run-dir."
    raise RunDirectoryError(f"The run directory {directory} is not empty. {way_on}")


def claim_next(parent: pathlib.Path, name: str) -> pathlib.Path:
    """Makes the first of name-001, name-002, ... that is not there."""
    make_run_directory(parent)
    try:
        for number in itertools.count(1):
            directory = parent / f"{name}-{number:03d}"
            try:
                directory.mkdir()
            except FileExistsError:
                continue
            return directory
    except OSError as error:
        problem = f"No run directory can be made in {parent}: {error.strerror}."
        raise RunDirectoryError(problem) from error
    raise AssertionError("unreachable")
