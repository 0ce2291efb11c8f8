"""Whether a run can be written where it should be, before and while it is."""

import contextlib
import errno
import math
import os
import pathlib
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import jax

from heavytail_optax.experiments.storage.run_directory import (
    RunDirectoryError,
    probe_path,
)

_MIB = 2**20
_PROBE_BYTES = _MIB
# Files and directories of one checkpoint, by counting; each takes a block of 4 KiB.
_FILES_PER_CHECKPOINT = 24
_KEPT_CHECKPOINTS = 2
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.ENOTDIR: "a part of the path is a file",
    errno.ENOENT: "it is not there",
    errno.EFBIG: "the file is larger than the limit of this process or file system",
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the file server no longer knows it",
}
_AFTERWARDS = (errno.ENOTDIR, errno.ENOENT)


def bytes_of_checkpoint(state: Any) -> int:
    """Disk space that a checkpoint takes, a little on the high side.

    Args:
      state: a pytree of arrays, or of `jax.ShapeDtypeStruct`: what a checkpoint holds.

    Returns:
      A number of bytes.
    """
    leaves = jax.tree.leaves(state)
    arrays = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    # Compression may lengthen random numbers a little, and what Orbax adds for each
    # array is below 1 KiB.
    return int(1.01 * arrays) + 1024 * len(leaves) + 4096 * _FILES_PER_CHECKPOINT


def bytes_of_run(state: Any, methods: int = 1) -> int:
    """Disk space that a job needs at most, a little on the high side.

    For each method there are two checkpoints, and for one of them a third that is being
    written. Metrics and picture are counted roughly.

    Args:
      state: as for `bytes_of_checkpoint`.
      methods: how many are trained.

    Returns:
      A number of bytes.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> state = jax.eval_shape(lambda: jnp.zeros(10**6))
      >>> bytes_of_run(state, methods=2) // 10**6
      24
    """
    checkpoints = _KEPT_CHECKPOINTS * methods + 1
    return checkpoints * bytes_of_checkpoint(state) + (2 + methods) * _MIB


def check_room(
    directory: pathlib.Path, needed_bytes: int, largest_file: int = 0
) -> None:
    """Writes a small file, and looks at the free space and the limits of this process.

    Really writing finds what permissions do not show, to root above all. A quota of
    which more than 1 MiB is left is not seen.

    Args:
      directory: of the job; it is there. What is in it counts as part of what is needed.
      needed_bytes: of the whole job, see `bytes_of_run`.
      largest_file: size in bytes that a file may come to, see `bytes_of_checkpoint`.

    Raises:
      RunDirectoryError: if it cannot be written to, or there is too little room.
    """
    try:
        _write_probe(directory)
        free = shutil.disk_usage(directory).free
        files = _free_files(directory)
        paths = (path for path in directory.rglob("*") if path.is_file())
        used = sum(path.lstat().st_size for path in paths)
    except OSError as error:
        reason = _reason(error) or error.strerror or str(error)
        raise RunDirectoryError(
            f"The run directory {directory} cannot be written to: {reason}"
            f"{_free_text(directory)}."
        ) from error
    missing = max(needed_bytes - used, _PROBE_BYTES)
    limit = _file_size_limit()
    if free < missing:
        problem = (
            f"{_in_mib(missing)} of disk space, and only {_in_mib(free)} are free there"
        )
    elif limit is not None and limit < largest_file:
        problem = (
            f"files of {_in_mib(largest_file)}, and this process may write no file over "
            f"{_in_mib(limit)} (see ulimit -f)"
        )
    elif files is not None and files < 2 * _FILES_PER_CHECKPOINT:
        problem = f"more files than the {files} that its file system has left"
    else:
        return
    raise RunDirectoryError(
        f"The run in {directory} needs {problem}. Make room, or choose another directory."
    )


@contextlib.contextmanager
def disk_errors(directory: pathlib.Path) -> Iterator[None]:
    """Turns errors of the disk into one that says what is kept and how to go on.

    Args:
      directory: of the job that is written inside.

    Raises:
      RunDirectoryError: for an error that says that something could not be written in
        the directory. All others pass as they are.
    """
    try:
        yield
    except RunDirectoryError:
        raise
    except Exception as error:
        reason = _reason(error, directory)
        if reason is None:
            raise
        raise RunDirectoryError(
            f"The run in {directory} stopped, as it could not be written: {reason}"
            f"{_free_text(directory)}. All up to the last checkpoint is kept. When "
            f"that is mended, go on: heavytail train --resume "
            f"{shlex.quote(str(directory))}"
        ) from error


def _write_probe(directory: pathlib.Path) -> None:
    probe = probe_path(directory)
    try:
        with probe.open("wb") as file:
            # Not zeros, which some file systems do not store.
            file.write(os.urandom(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _reason(error: BaseException, directory: pathlib.Path | None = None) -> str | None:
    """Which trouble with the disk it is, in words; None if it is something else."""
    if isinstance(error, BaseExceptionGroup):
        found = (_reason(each, directory) for each in error.exceptions)
        return next((reason for reason in found if reason), None)
    if isinstance(error, OSError):
        code = error.errno
        paths = [p for p in (error.filename, error.filename2) if isinstance(p, str)]
    else:
        # TensorStore, under Orbax, raises a ValueError with the number in its text.
        match = re.search(r"os_error_code='(\d+)'", str(error))
        code = int(match[1]) if match else None
        paths = re.findall(r'"(/[^"]*)"', str(error)) if match else []
    is_here = directory is None or not paths or any(_is_in(p, directory) for p in paths)
    # What is not there is a mistake in the program, once a run is under way.
    if code in _REASONS and is_here and (directory is None or code not in _AFTERWARDS):
        return _REASONS[code]
    return None if error.__cause__ is None else _reason(error.__cause__, directory)


def _is_in(path: str, directory: pathlib.Path) -> bool:
    return pathlib.Path(path).absolute().is_relative_to(directory.absolute())


def _free_text(directory: pathlib.Path) -> str:
    try:
        return f" ({_in_mib(shutil.disk_usage(directory).free)} free)"
    except OSError:
        return ""


def _free_files(directory: pathlib.Path) -> int | None:
    """How many more files there may be; None if that is not limited or not known."""
    if sys.platform == "win32":
        return None
    status = os.statvfs(directory)
    return status.f_favail if status.f_files else None


def _file_size_limit() -> int | None:
    """Bytes that this process may write into one file; None if that is not limited."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _in_mib(number: int) -> str:
    return f"{number / _MIB:,.1f} MiB"
