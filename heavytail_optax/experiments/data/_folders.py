"""Which files of a folder are of a data set, in whatever spelling, and what else is there."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence

from heavytail_optax.experiments.data._catalogue import PublishedData

_UNFINISHED = (
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".incomplete",
    ".filepart",
    ".opdownload",
    ".aria2",
    ".tmp",
)
_SHOWN = 8


def file_names(data: PublishedData) -> tuple[str, ...]:
    """Of the training files, then of the test files."""
    return tuple(file.name for file in (*data.train.files, *data.test.files))


def files_in(folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """What is in a folder, sorted; nothing if there is no such folder.

    Where it is not there, one of the same name in other case is taken.
    """
    place = folder if folder.is_dir() else _in_other_case(folder)
    return tuple(sorted(place.iterdir())) if place is not None else ()


def find_file(there: Sequence[pathlib.Path], name: str) -> pathlib.Path | None:
    """The file of this name, or of another spelling of it.

    They are: `.gz` appended, a dot instead of the dash before idx, other case, and a
    folder of this name that has the file.
    """
    same = [path for path in there if _published(path.name) == _published(name)]
    same.sort(key=lambda path: (path.name != name, path.name != f"{name}.gz"))
    if same and same[0].is_dir():
        inside = [path for path in same[0].iterdir() if not path.is_dir()]
        return find_file(sorted(inside), name) or same[0]
    return same[0] if same else None


def unfinished_downloads(
    there: Sequence[pathlib.Path], names: Sequence[str]
) -> Iterator[pathlib.Path]:
    """Those of a file with one of these names, or of a Parquet file of the hub."""
    wanted = {_published(name) for name in names}
    for path in there:
        stem, end = path.stem, path.suffix.lower()
        if end in _UNFINISHED and (_published(stem) in wanted or is_parquet(stem)):
            yield path


def is_parquet(name: str, split: str = "") -> bool:
    """Whether a name is that of a Parquet file of the hub, of one split or of any."""
    name = name.lower()
    starts = (split,) if split else ("train", "test")
    return name.startswith(starts) and name.endswith(".parquet")


def listing(data: PublishedData, root: pathlib.Path) -> str:
    """What is in a folder instead of the files, in words."""
    there = files_in(root)
    for folder in filter(pathlib.Path.is_dir, there):
        for inner in (folder, *(folder / name for name in data.folders)):
            if place := _with_files(data, inner):
                return f"There are some in {place}: give that folder to --data-dir"
    if not there:
        return "It is empty"
    names = [path.name + ("/" if path.is_dir() else "") for path in there]
    more = len(names) - _SHOWN
    return f"There is: {', '.join(names[:_SHOWN])}" + (
        f" and {more} more" if more > 0 else ""
    )


def _with_files(data: PublishedData, folder: pathlib.Path) -> pathlib.Path | None:
    """The folder as it is spelt, if it can be read and has files of the data set."""
    with contextlib.suppress(OSError):
        there = files_in(folder)
        originals = (find_file(there, name) for name in file_names(data))
        if any(originals) or any(is_parquet(path.name) for path in there):
            return there[0].parent
    return None


def _published(name: str) -> str:
    """The name as its publisher would write it, without .gz."""
    return name.lower().removesuffix(".gz").replace(".idx", "-idx")


def _in_other_case(folder: pathlib.Path) -> pathlib.Path | None:
    parent = folder.parent
    if folder == parent:
        return None
    place = parent if parent.is_dir() else _in_other_case(parent)
    if place is None:
        return None
    wanted = folder.name.lower()
    same = (path for path in sorted(place.iterdir()) if path.name.lower() == wanted)
    return next((path for path in same if path.is_dir()), None)
