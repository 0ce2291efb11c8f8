"""The files of a data set in a folder, in whatever spelling, and what is wrong with them."""

import contextlib
import fnmatch
import io
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

from ..errors import DataError
from .catalogue import PublishedData

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


MOST_NAMED = 10
"""So many wrong files have a line in one error."""

HEAD_BYTES = 512
"""As many of the first bytes as `content_of` looks at."""

GZIP, PARQUET, PNG = b"\x1f\x8b", b"PAR1", b"\x89PNG"
_POINTERS = {
    b"version https://git-lfs.github.com/spec/": (
        "a Git LFS pointer, not the file itself: run `git lfs pull` in its folder"
    ),
    b"annex/objects/": (
        "a git-annex pointer, not the file itself: run `git annex get .` in its folder"
    ),
}
_WEB_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")
_FORMATS = {
    b"PK\x03\x04": "a ZIP archive, to be unpacked",
    GZIP: "compressed by gzip, to be unpacked",
    b"BZh": "compressed by bzip2, to be unpacked",
    b"\xfd7zXZ": "compressed by xz, to be unpacked",
    PARQUET: "a Parquet file, which needs the name that it has on the hub",
    b"MATLAB 7.3": "a MATLAB file of version 7.3",
    b"MATLAB 5.0": "a MATLAB file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy file",
    PNG: "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a WebP image",
    b"II*\x00": "a TIFF image",
    b"MM\x00*": "a TIFF image",
    b"BM": "a BMP image",
    **{bytes([0x80, n]): "a pickle, which is never loaded" for n in (2, 3, 4, 5)},
}


def content_of(head: bytes) -> str | None:
    """What a file with these first bytes is; None if that is not known."""
    # None of these is the start of an IDX or a CIFAR file: those begin with 0 or a label.
    if not head:
        return "empty"
    is_short = len(head) < HEAD_BYTES
    for mark, pointer in _POINTERS.items():
        if is_short and mark in head:
            return pointer
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_WEB_PAGES):
        return "a web page, perhaps of an error"
    for mark, what in _FORMATS.items():
        if head.startswith(mark):
            return what
    if head[257:262] == b"ustar":
        return "a tar archive, to be unpacked"
    with contextlib.suppress(UnicodeDecodeError):
        words = " ".join(head.decode().split())[:60] if is_short else ""
        return f"a text, {words!r}" if words.isprintable() and words else None
    return None


def refuse_content(path: pathlib.Path, head: bytes) -> None:
    """Raises an error if a file plainly is something else than data."""
    if what := content_of(head):
        raise DataError(f"{path}: is {what}. The published file is wanted.")


def peek(file: io.BufferedIOBase) -> bytes:
    """The first bytes, which are read again afterwards."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return head


def refuse_all(problems: Sequence[str]) -> None:
    """Raises one error for all problems, a line each; of many, for the first ten."""
    if problems:
        others = ["And others."] if len(problems) > MOST_NAMED else []
        raise DataError("\n".join([*problems[:MOST_NAMED], *others]))


def unreadable(path: pathlib.Path, error: OSError) -> DataError:
    """The error for a file or a folder that cannot be read."""
    if not path.is_symlink() or path.exists():
        return DataError(f"{path}: cannot be read ({error.strerror}).")
    target = path.readlink()
    advice = f". Run `git annex get {path.name}` in its folder"
    return DataError(
        f"{path}: is a link to {target}, which is not there"
        f"{advice if 'annex/objects' in target.as_posix() else ''}."
    )


def refuse_unusable_files(data: PublishedData, root: pathlib.Path) -> None:
    """Raises an error if the data set is there as an archive, a pickle or half of a file."""
    names = ", ".join((*data.train.files, *data.test.files))
    for folder in (".", *data.folders):
        files = files_in(root, folder)
        for path in matching(files, *data.archives):
            with path.open("rb") as file:
                head = peek(file)
            if not head.startswith(GZIP) and head[257:262] != b"ustar":
                refuse_content(path, head)
            advice = f"has to be unpacked (tar -xf {path.name}), to give {names}"
            raise DataError(f"{path}: {advice}.")
        for path in matching(files, *data.pickled):
            raise DataError(
                f"{path}: belongs to the Python version of {data.title}, which is "
                "pickled. It is never loaded, since a pickle can run any program. The "
                f"binary version ({data.archives[0]}) is read: {names}."
            )
        for path in unfinished_downloads(files, *_names(data), *data.archives):
            advice = "Wait until it is done, or download the file again"
            raise DataError(f"{path}: is an unfinished download. {advice}.")


def what_is_there(data: PublishedData, root: pathlib.Path) -> str:
    """What a folder has instead of the files, in words."""
    there = list(files_in(root).values())
    for path in filter(pathlib.Path.is_dir, there):
        for folder in (".", *data.folders):
            with contextlib.suppress(OSError):
                files = files_in(path, folder)
                if matching(files, *_names(data)):
                    place = next(iter(files.values())).parent
                    return f"There are some in {place}: give that folder to --data-dir"
    names = [path.name + ("/" if path.is_dir() else "") for path in there]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"There is: {', '.join(names[:8])}{more}" if names else "It is empty"


def _names(data: PublishedData) -> tuple[str, ...]:
    return (*data.train.files, *data.test.files, "train*.parquet", "test*.parquet")
