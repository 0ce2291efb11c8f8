"""The files of a data set in a folder, in whatever spelling."""

import fnmatch
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

from ..errors import DataError

Files = Mapping[str, pathlib.Path]  # plain name -> path
Paths = Sequence[pathlib.Path]

_UNFINISHED = re.compile(
    r"\.(part|partial|filepart|(cr|op)?download|incomplete|aria2|tmp)$"
)


def find_files(
    root: pathlib.Path, folders: Iterable[str], *splits: Iterable[str]
) -> list[Paths] | None:
    """The files of each split, in the first folder that has all of their names.

    A name may be a pattern. If some are there, but nowhere all, that is an error.
    """
    names, problem = [name for split in splits for name in split], ""
    for folder in (*folders, "."):
        files = files_in(root, folder)
        missing = [name for name in names if not matching(files, name)]
        if not missing:
            return [matching(files, *split) for split in splits]
        if len(missing) < len(names) and not problem:
            one = matching(files, *names)[0]
            problem = f"{one}: beside it, {', '.join(missing)} is missing."
            for path in unfinished_downloads(files, *missing):
                problem += f" {path.name} is an unfinished download."
    if problem:
        raise DataError(problem)
    return None


def files_in(root: pathlib.Path, folder: str = ".") -> Files:
    """Plain name -> path; the folder may be spelt in any case, or not be there.

    If a file is there in several spellings, the published one counts.
    """
    place = root
    for part in pathlib.PurePath(folder).parts:
        if not (place / part).is_dir() and place.is_dir():
            inner = {p.name.lower(): p.name for p in place.iterdir() if p.is_dir()}
            part = inner.get(part.lower(), part)
        place /= part
    there = sorted(place.iterdir()) if place.is_dir() else []
    there.sort(key=lambda path: (_plain(path.name) == path.name, path.suffix == ".gz"))
    files = {_plain(path.name): path for path in there}
    return dict(sorted(files.items()))


def matching(files: Files, *names: str) -> Paths:
    """The files of some names or patterns.

    A file may be in a folder of its own name, as some archives unpack it.
    """
    found = [n for name in names for n in fnmatch.filter(files, _plain(name))]
    return [files_in(files[name]).get(name, files[name]) for name in found]


def unfinished_downloads(files: Files, *names: str) -> Paths:
    """Those of a file with one of these names or patterns: train.bin.part, say."""
    whole = {
        _plain(_UNFINISHED.sub("", name)): path
        for name, path in files.items()
        if _UNFINISHED.search(name)
    }
    return matching(whole, *names)


def _plain(name: str) -> str:
    """In lower case, without .gz, and with a dash before idx where there is a dot."""
    return name.lower().removesuffix(".gz").replace(".idx", "-idx")
