"""The directory of a run or a grid: where everything is in it, and who may have it.

config.json of a run has all that is needed to run it again, or to go on with it.
"""

import contextlib
import datetime
import errno
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import shlex
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import filelock

from ..errors import USAGE, JobError
from ..files import make_directory, partial_path, replace_file
from ..flat_settings import flat, from_flat
from ..settings import Settings

GRID = "grid.json"
"""The file of a grid that says what it is."""

LOCK, HOLDER = "run.lock", "run.holder"
"""The file that the process which works in a directory has locked, and who that is."""

_WITHOUT_LIMIT = -1.0  # as filelock has it

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EROFS, errno.EACCES, errno.EPERM}
_DISK_ERRORS = _NO_ROOM | _NOT_ALLOWED | {errno.EIO, errno.ESTALE}


class RunDirectoryError(JobError):
    """The directory cannot be used as asked; the message says what to do."""


class RunPaths(NamedTuple):
    """The files of one run: one method, one seed."""

    config: pathlib.Path  # settings with their sources, versions, data, command
    metrics: pathlib.Path  # a line an evaluation
    checkpoints: pathlib.Path  # the newest two states
    measurements: pathlib.Path  # all measures of the result
    layers: pathlib.Path  # the same, layer by layer
    gradient_noise: pathlib.Path  # a file for each number and size of batches
    tensorboard: pathlib.Path  # the metrics again
    failure: pathlib.Path  # the traceback of an error that nobody expected

    @classmethod
    def of(cls, directory: pathlib.Path) -> "RunPaths":
        """Those of the run in a directory."""
        names = (
            "config.json",
            "metrics.jsonl",
            "checkpoints",
            "measurements.json",
            "measurements_by_layer.json",
            "gradient_noise",
            "tensorboard",
            "failure.txt",
        )
        return cls(*(directory / name for name in names))

    def noise_of(self, draws: int, batch_size: int) -> pathlib.Path:
        """The sizes of the noise of so many batches."""
        return self.gradient_noise / f"{draws}-batches-of-{batch_size}.npz"


@contextlib.contextmanager
def disk_errors(directory: pathlib.Path) -> Iterator[None]:
    """Turns an error of the disk in a run directory into a `RunDirectoryError`."""
    try:
        yield
    except OSError as error:
        # An error at an open file has no name.
        place = pathlib.Path(error.filename or directory).absolute()
        is_here = place.is_relative_to(directory.absolute())
        if error.errno not in _DISK_ERRORS or not is_here:
            raise
        raise RunDirectoryError(
            f"The run in {directory} stopped because {place} could not be read or "
            f"written: {error.strerror}. All up to the last checkpoint is kept."
        ) from error


def is_free(directory: pathlib.Path) -> bool:
    """Whether it holds at most what a process leaves that was killed at its start."""
    lock, holder, grid = (directory / name for name in (LOCK, HOLDER, GRID))
    leftovers = {lock, holder, partial_path(holder), partial_path(grid)}
    return not directory.exists() or not set(directory.iterdir()) - leftovers


def claim(directory: pathlib.Path) -> None:
    """Makes a new directory, or takes an empty one."""
    make_directory(directory)
    if not os.access(directory, os.W_OK):
        raise RunDirectoryError(f"The run directory {directory} is not writable.")
    if is_free(directory):
        return
    way_on = "Choose another --directory."
    if (directory / GRID).exists():
        resume = shlex.join(["--resume", str(directory)])
        way_on = f"Go on with it by {resume}, or choose another --directory."
    problem = f"The run directory {directory} is not empty. {way_on}"
    raise RunDirectoryError(problem, exit_status=USAGE)


def claim_next(parent: pathlib.Path, name: str) -> pathlib.Path:
    """Makes the first of name-001, name-002, ... that is not there."""
    make_directory(parent)
    for number in itertools.count(1):
        directory = parent / f"{name}-{number:03d}"
        with contextlib.suppress(FileExistsError), disk_errors(parent):
            directory.mkdir()
            return directory
    raise AssertionError("unreachable")


class RunBusyError(RunDirectoryError):
    """Another process works in the directory."""


class RunLock:
    """Holds a run directory for this process; the system releases it after a kill."""

    def __init__(self, directory: pathlib.Path, wait_seconds: float = 0.0) -> None:
        self._directory, self._holder = directory, directory / HOLDER
        # The soft lock that it would fall back on outlives a killed process.
        self._lock = filelock.FileLock(
            directory.absolute() / LOCK, wait_seconds, fallback_to_soft=False
        )

    def __enter__(self) -> Self:
        if not self._directory.is_dir():
            raise RunDirectoryError(f"There is no run directory {self._directory}.")
        try:
            self._lock.acquire()
            if isinstance(self._lock, filelock.SoftFileLock):
                raise NotImplementedError
            since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
            values = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
            replace_file(self._holder, json.dumps(values))
        except filelock.Timeout as error:
            raise RunBusyError(self._refusal()) from error
        except (OSError, NotImplementedError) as error:
            self._lock.release()
            raise RunDirectoryError(self._problem(error)) from error
        return self

    def __exit__(self, *exception: object) -> None:
        # Files can be removed from a full disk; other errors are reported elsewhere.
        with contextlib.suppress(OSError):
            self._holder.unlink(missing_ok=True)
        self._lock.release()

    def _refusal(self) -> str:
        try:
            values = json.loads(self._holder.read_text("utf-8"))
            who = "process {pid} on {host} since {since}".format(**values)
        # It may just be writing, or of another version.
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            who = "another process"
        return (
            f"The run directory {self._directory} is in use by {who}. Wait until it is "
            "done or stop it, or choose another directory."
        )

    def _problem(self, error: Exception) -> str:
        code = getattr(error, "errno", errno.ENOSYS)
        if code in (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK):
            return (
                f"The file system of {self._directory} has no file locks, which keep a "
                "second process from the same run. Choose a directory on another one."
            )
        reason = os.strerror(code) if code else str(error)
        return f"The run directory {self._directory} cannot be locked: {reason}."


def grid_lock(directory: pathlib.Path) -> RunLock:
    """For what all processes of a grid write: waits until the others have written it."""
    # Pictures and fits may take minutes, and a holder that dies sets it free.
    return RunLock(directory, wait_seconds=_WITHOUT_LIMIT)


_PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy", "scikit-learn")
_FORMAT = 3
_ENTRIES = {
    **dict.fromkeys(("preset", "command", "device"), str),
    **dict.fromkeys(("settings", "sources", "data", "versions"), dict),
}


def write_config(path: pathlib.Path, settings: Settings, **others: Any) -> None:
    """Writes the entries above; the file is on the disk when this returns."""
    config = {
        "format": _FORMAT,
        "settings": flat(settings),
        **others,
        "versions": versions(),
    }
    replace_file(path, json.dumps(config, indent=2) + "\n")


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """What `write_config` wrote; `settings` is a `Settings`, checked."""
    config = read_json(path)
    with understood(path):
        _check(config)
        return {**config, "settings": from_flat(config["settings"])}


@contextlib.contextmanager
def understood(path: pathlib.Path) -> Iterator[None]:
    """Turns what is wrong with the values of a file into a `RunDirectoryError`."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problem = str(error).removesuffix(".")
        raise RunDirectoryError(
            f"{path} is not understood: {problem}. Choose another directory, or put the "
            "file back."
        ) from error


def read_json(path: pathlib.Path) -> Any:
    """What a JSON file of a run or a grid holds; a RunDirectoryError if it cannot be read."""
    try:
        with understood(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        problem = f"There is nothing to go on with in {path.parent}: {path} is missing."
        raise RunDirectoryError(problem) from error
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror}.") from error


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a run depends on."""
    names = ("heavytail-optax", *_PACKAGES)
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found}


def _check(config: Any) -> None:
    """Raises if these cannot be the entries of config.json."""
    if not isinstance(config, dict):
        raise TypeError("it holds no JSON object.")
    number = config.get("format", 1)
    if number != _FORMAT:
        recorded = config.get("versions")
        by = recorded.get("heavytail-optax") if isinstance(recorded, dict) else None
        raise ValueError(
            f"its format is {number!r}, and this version reads {_FORMAT}. Go on with "
            f"the version that wrote it: heavytail-optax {by or 'unknown'}."
        )
    for name, kind in _ENTRIES.items():
        if not isinstance(config.get(name), kind):
            raise TypeError(f"its entry `{name}` is missing or of the wrong type.")
