"""Files that are whole, and on the disk, or not there."""

import errno
import os
import pathlib


def replace_file(path: pathlib.Path, text: str) -> None:
    """Writes a file all at once: after a kill or a power cut it is the old or the new.

    Args:
      path: of the file; its directory is there.
      text: the new content.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     path = pathlib.Path(directory) / "config.json"
      ...     replace_file(path, "{}")
      ...     path.read_text(), len(list(path.parent.iterdir()))
      ('{}', 1)
    """
    partial = partial_path(path)
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_directory(path.parent)


def partial_path(path: pathlib.Path) -> pathlib.Path:
    """Where `replace_file` writes before it renames; a kill may leave it."""
    return path.with_name(path.name + ".partial")


def append_line(path: pathlib.Path, line: str) -> None:
    """Adds a line to a file, on the disk when this returns.

    Args:
      path: of the file; made if it is not there.
      line: without its end.
    """
    is_new = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_directory(path.parent)


def sync_directory(directory: pathlib.Path) -> None:
    """Puts the names in a directory on the disk, where its file system can do that.

    Args:
      directory: whose names have changed.
    """
    if os.name == "nt":  # A directory cannot be opened there.
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)
