"""Files that are whole, and on the disk, or not there; and where the user's caches are."""

import contextlib
import errno
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def replacing(
    path: pathlib.Path, partial: pathlib.Path | None = None
) -> Iterator[pathlib.Path]:
    """Gives a file beside `path` to write, which takes its place when the block is done."""
    partial = partial or partial_path(path)
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def replace_file(path: pathlib.Path, text: str) -> None:
    """Writes a file in UTF-8: after a kill or a power cut it is the old or the new one."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def partial_path(path: pathlib.Path) -> pathlib.Path:
    """Where `replacing` has a file written before it renames it; a kill may leave it."""
    return path.with_name(path.name + ".partial")


def set_aside_damaged(path: pathlib.Path) -> pathlib.Path:
    """Renames a file that cannot be read, so that a new one does not overwrite it."""
    return path.replace(path.with_name(f"damaged-{path.name}"))


def append_line(path: pathlib.Path, line: str) -> None:
    """Adds a line to a file, on the disk when this returns."""
    is_new = not path.exists()
    make_directory(path.parent)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_directory(path.parent)


def make_directory(directory: pathlib.Path) -> None:
    """Makes a directory and those above it, on the disk when this returns."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)


def sync_directory(directory: pathlib.Path) -> None:
    """Puts the names in a directory on the disk, where its file system can do that."""
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


def user_cache(
    kind: str, environment: Mapping[str, str] = os.environ
) -> pathlib.Path | None:
    """The directory for files of a kind; None for a user without a home directory."""
    if sys.platform == "win32":
        place = environment.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        place = "~/Library/Caches"
    else:
        place = environment.get("XDG_CACHE_HOME", "")
        # The rule of XDG: a relative path counts as none.
        place = place if os.path.isabs(place) else "~/.cache"
    whole = expanded(pathlib.Path(place))
    return whole / "heavytail-optax" / kind if whole.is_absolute() else None


def expanded(path: pathlib.Path) -> pathlib.Path:
    """With the home directory for ~; as it is where there is none, which is no error."""
    return pathlib.Path(os.path.expanduser(path))
