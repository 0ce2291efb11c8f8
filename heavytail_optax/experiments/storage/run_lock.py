"""One process at a time in a run directory."""

import contextlib
import datetime
import errno
import json
import os
import pathlib
import socket
from typing import Self

import filelock

from heavytail_optax.experiments.storage.durable_files import replace_file
from heavytail_optax.experiments.storage.run_directory import (
    RunDirectoryError,
    holder_path,
    lock_path,
)


class RunBusyError(RunDirectoryError):
    """Another process works in the directory."""


class RunLock:
    """Holds a run directory for this process; the system releases it after a kill."""

    def __init__(self, directory: pathlib.Path, wait_seconds: float = 0.0) -> None:
        self._directory = directory
        self._wait_seconds = wait_seconds
        # The soft lock that it would fall back on outlives a killed process.
        self._lock = filelock.FileLock(
            lock_path(directory.absolute()), fallback_to_soft=False
        )

    def __enter__(self) -> Self:
        if not self._directory.is_dir():
            raise RunDirectoryError(f"There is no run directory {self._directory}.")
        try:
            self._lock.acquire(timeout=self._wait_seconds)
            if isinstance(self._lock, filelock.SoftFileLock):
                raise NotImplementedError
            replace_file(holder_path(self._directory), json.dumps(_this_process()))
        except filelock.Timeout as error:
            raise RunBusyError(self._refusal()) from error
        except (OSError, NotImplementedError) as error:
            self._lock.release()
            raise RunDirectoryError(self._problem(error)) from error
        return self

    def __exit__(self, *exception: object) -> None:
        # Files can be removed from a full disk; other errors are reported elsewhere.
        with contextlib.suppress(OSError):
            holder_path(self._directory).unlink(missing_ok=True)
        self._lock.release()

    def _refusal(self) -> str:
        try:
            holder = json.loads(holder_path(self._directory).read_text("utf-8"))
            who = "process {pid} on {host} since {since}".format(**holder)
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


def _this_process() -> dict[str, int | str]:
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
