"""The files of a data set in a folder, in whatever spelling."""

import fnmatch
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from heavytail_optax.experiments.errors import DataError

Files = Mapping[str, pathlib.Path]  # name in one spelling -> path
Paths = Sequence[pathlib.Path]

_UNFINISHED = (
    *(".part", ".partial", ".filepart", ".download", ".crdownload", ".opdownload"),
    *(".incomplete", ".aria2", ".tmp"),
)


def find_files(
    root: pathlib.Path, folders: Iterable[str], *splits: Iterable[str]
) -> tuple[Paths, ...] | None:
    """The files of each split, in the first folder that has all of their names.

    A name may be a pattern. It is an error if some are there, but nowhere all.
    """
    names, problem = [name for split in splits for name in split], ""
    for folder in (*folders, "."):
        files = files_in(root, folder)
        found = {name: paths for name in names if (paths := matching(files, name))}
        missing = [name for name in names if name not in found]
        if not missing:
            return tuple([p for name in split for p in found[name]] for split in splits)
        if found and not problem:
            one, *_ = found.values()
            problem = f"{one[0]}: beside it, {', '.join(missing)} is missing."
            for path in unfinished_downloads(files, missing):
                problem += f" {path.name} is an unfinished download."
    if problem:
        raise DataError(problem)
    return None


def files_in(root: pathlib.Path, folder: str = ".") -> Files:
    """What is in a folder, sorted; nothing if there is no such folder.

    The folder may be spelt in any case. Of two spellings of a file, the published one
    counts.
    """
    place = root
    for part in pathlib.PurePath(folder).parts:
        if not (place / part).is_dir() and place.is_dir():
            inner = {p.name.lower(): p.name for p in place.iterdir() if p.is_dir()}
            part = inner.get(part.lower(), part)
        place /= part
    paths = sorted(place.iterdir(), key=_rank) if place.is_dir() else []
    files = {_in_one_spelling(path.name): path for path in paths}
    return dict(sorted(files.items()))


def matching(files: Files, name: str) -> Paths:
    """The files of a name or a pattern.

    A folder with the name of a file stands for the file of that name in it.
    """
    wanted = _in_one_spelling(name)
    paths = [files[found] for found in fnmatch.filter(files, wanted)]
    return [files_in(p).get(wanted, p) if p.is_dir() else p for p in paths]


def unfinished_downloads(files: Files, names: Iterable[str]) -> Paths:
    """Those of a file with one of these names or patterns: train.bin.part, say."""
    whole = {
        _in_one_spelling(pathlib.PurePath(name).stem): path
        for name, path in files.items()
        if name.endswith(_UNFINISHED)
    }
    return [path for name in names for path in matching(whole, name)]


def _rank(path: pathlib.Path) -> tuple[bool, bool, str]:
    name = _in_one_spelling(path.name)
    return path.name == name, path.name == f"{name}.gz", path.name


def _in_one_spelling(name: str) -> str:
    """In lower case, without .gz, and with a dash before idx where there is a dot."""
    return name.lower().removesuffix(".gz").replace(".idx", "-idx")
