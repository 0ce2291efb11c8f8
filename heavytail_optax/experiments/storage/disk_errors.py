"""Errors of the disk in words, with what is kept and how to go on."""

import contextlib
import errno
import pathlib
from collections.abc import Iterator

from heavytail_optax.experiments.storage.run_directory import RunDirectoryError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EFBIG: "the file is larger than the limit of this process or file system",
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the file server no longer knows the file",
}


@contextlib.contextmanager
def disk_errors(directory: pathlib.Path) -> Iterator[None]:
    """Turns an error of the disk in a run directory into a `RunDirectoryError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS or not _is_in(directory, error.filename):
            raise
        raise RunDirectoryError(
            f"The run in {directory} stopped because it could not be written: "
            f"{_REASONS[error.errno]}. All up to the last checkpoint is kept, to go on "
            "with when that is mended."
        ) from error


def _is_in(directory: pathlib.Path, name: str | None) -> bool:
    """Also if the error names no file, as those of an open file do."""
    return name is None or pathlib.Path(name).absolute().is_relative_to(
        directory.absolute()
    )
