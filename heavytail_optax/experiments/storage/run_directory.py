"""The directory of a job: settings, metrics, checkpoints and picture.

config.json                  settings, their sources, versions, device, command, data
training.png                 loss and accuracy of all methods
run.lock, run.holder         who is at work here (run_lock.py)
<method>/metrics.jsonl       one line an evaluation
<method>/checkpoints/<step>  the newest two states
<method>/sharpness.json      scalar measures of the result
<method>/flatness.json       all measures of it, and how they were computed
<method>/gradient_noise/     sizes of the noise of small batches' gradients, a file for
                             each number and size of batches
<method>/tensorboard         the metrics again, if asked for (tensorboard_log.py)
"""

import dataclasses
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.settings import Settings, from_dict
from heavytail_optax.experiments.storage.durable_files import partial_path, replace_file

_PACKAGES = (
    "heavytail-optax",
    "jax",
    "jaxlib",
    "optax",
    "flax",
    "orbax-checkpoint",
    "numpy",
    "scikit-learn",
)
_FORMAT = 1
_ENTRIES = {
    "preset": str,
    "settings": dict,
    "methods": list,
    "sources": dict,
    "data": dict,
    "command": str,
    "device": str,
    "versions": dict,
}


class RunDirectoryError(JobError):
    """The directory cannot be used as asked; the message says what to do."""


def config_path(directory: pathlib.Path) -> pathlib.Path:
    """Where the settings are."""
    return directory / "config.json"


def metrics_path(directory: pathlib.Path, method: str) -> pathlib.Path:
    """Where the metrics of a method are."""
    return directory / method / "metrics.jsonl"


def checkpoints_path(directory: pathlib.Path, method: str) -> pathlib.Path:
    """Where the checkpoints of a method are."""
    return directory / method / "checkpoints"


def sharpness_path(directory: pathlib.Path, method: str) -> pathlib.Path:
    """Where the scalar measures of a method's result are."""
    return directory / method / "sharpness.json"


def flatness_path(directory: pathlib.Path, method: str) -> pathlib.Path:
    """Where all measures of a method's result are, with their arguments."""
    return directory / method / "flatness.json"


def noise_path(
    directory: pathlib.Path, method: str, draws: int, batch_size: int
) -> pathlib.Path:
    """Where the sizes of the noise of a method's gradients are, of so many batches."""
    name = f"{draws}-batches-of-{batch_size}.npz"
    return directory / method / "gradient_noise" / name


def tensorboard_path(directory: pathlib.Path, method: str) -> pathlib.Path:
    """Where the TensorBoard event files of a method are."""
    return directory / method / "tensorboard"


def lock_path(directory: pathlib.Path) -> pathlib.Path:
    """The file that the process at work here has locked."""
    return directory / "run.lock"


def holder_path(directory: pathlib.Path) -> pathlib.Path:
    """What that process says about itself."""
    return directory / "run.holder"


def probe_path(directory: pathlib.Path) -> pathlib.Path:
    """The file that is written, and removed, to see whether there is room."""
    return directory / ".room"


def plot_path(directory: pathlib.Path) -> pathlib.Path:
    """Where the picture is."""
    return directory / "training.png"


def claim(directory: pathlib.Path) -> None:
    """Makes a new directory, or takes an empty one.

    What a process leaves that is killed before its job has settings does not count, nor
    does a lock: claimed again under the lock, the directory is no other process's.

    Args:
      directory: of a new job.

    Raises:
      RunDirectoryError: if there is something in it, or it cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        leftovers = {
            lock_path(directory),
            holder_path(directory),
            probe_path(directory),
            partial_path(config_path(directory)),
        }
        occupied = any(path not in leftovers for path in directory.iterdir())
        writable = os.access(directory, os.W_OK)
    except OSError as error:
        problem = f"The run directory {directory} cannot be made: {error.strerror}."
        raise RunDirectoryError(problem) from error
    if not writable:
        raise RunDirectoryError(f"The run directory {directory} is not writable.")
    if not occupied:
        return
    if config_path(directory).exists():
        way_on = f"Go on with it by --resume {directory}, or choose another --run-dir."
    else:
        way_on = "Choose another --run-dir."
    raise RunDirectoryError(f"The run directory {directory} is not empty. {way_on}")


def claim_next(parent: pathlib.Path, name: str) -> pathlib.Path:
    """Makes the first of name-001, name-002, ... that is not there.

    Args:
      parent: directory of all runs; made if it is not there.
      name: first part of the new directory's name.

    Returns:
      The new, empty directory.

    Raises:
      RunDirectoryError: if it cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
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


def write_config(
    directory: pathlib.Path,
    *,
    preset: str,
    settings: Settings,
    methods: Sequence[str],
    sources: Mapping[str, str],
    data: Mapping[str, int | str],
    command: str,
    device: str,
) -> None:
    """Writes what is needed to run the job again, all at once or not at all.

    It is on the disk when this returns.

    Args:
      directory: of the job.
      preset: its name.
      settings: of the job.
      methods: that the job trains with.
      sources: where each setting comes from.
      data: sizes and checksum of the data.
      command: as typed.
      device: kind of device that the job runs on.
    """
    config = {
        "format": _FORMAT,
        "preset": preset,
        "settings": dataclasses.asdict(settings),
        "methods": list(methods),
        "sources": sources,
        "data": data,
        "command": command,
        "device": device,
        "versions": versions(),
    }
    replace_file(config_path(directory), json.dumps(config, indent=2) + "\n")


def read_config(directory: pathlib.Path) -> dict[str, Any]:
    """What `write_config` wrote, with the settings checked.

    Args:
      directory: of an earlier job.

    Returns:
      The entries of config.json; `settings` is a `Settings`.

    Raises:
      RunDirectoryError: if there is no such job, or its settings are not understood.
    """
    path = config_path(directory)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        problem = f"There is no run to resume in {directory}: {path} is missing."
        raise RunDirectoryError(problem) from error
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path} cannot be read: {error}.") from error
    problem = _problem_of(config)
    if problem is not None:
        raise RunDirectoryError(f"{path} is not understood: {problem}")
    try:
        settings: Settings = from_dict(config["settings"])
        return {**config, "settings": settings}
    except (ValueError, TypeError) as error:
        raise RunDirectoryError(f"{path} is not understood: {error}") from error


def _problem_of(config: Any) -> str | None:
    """Why these cannot be the entries of config.json, in words; None if they can."""
    if not isinstance(config, dict):
        return "it holds no JSON object."
    number = config.get("format", 1)
    if number != _FORMAT:
        recorded = config.get("versions")
        by = recorded.get("heavytail-optax") if isinstance(recorded, dict) else None
        return (
            f"its format is {number!r}, and this version reads {_FORMAT}. Go on with "
            f"the version that wrote it: heavytail-optax {by or 'unknown'}."
        )
    for name, kind in _ENTRIES.items():
        if not isinstance(config.get(name), kind):
            return f"its entry `{name}` is missing or of the wrong type."
    return None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a run depends on."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}
