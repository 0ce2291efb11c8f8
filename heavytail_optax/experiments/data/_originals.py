"""The files that the authors of a data set distribute, in a directory."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from heavytail_optax.experiments.data._arrays import Arrays
from heavytail_optax.experiments.data._catalogue import PublishedData, PublishedSplit
from heavytail_optax.experiments.data._cifar import read_cifar_files
from heavytail_optax.experiments.data._contents import GZIP, content_of
from heavytail_optax.experiments.data._errors import DataError
from heavytail_optax.experiments.data._files import read_head
from heavytail_optax.experiments.data._folders import (
    file_names,
    files_in,
    find_file,
    unfinished_downloads,
)
from heavytail_optax.experiments.data._idx import read_idx_files
from heavytail_optax.experiments.data._svhn import read_svhn_file


class SplitPaths(NamedTuple):
    """The files of both splits, in order."""

    train: tuple[pathlib.Path, ...]
    test: tuple[pathlib.Path, ...]


def find_original_files(
    data: PublishedData, root: pathlib.Path, folders: Sequence[str]
) -> SplitPaths | None:
    """The first folder that has all files, each plain or gzip, in one of its spellings."""
    names = file_names(data)
    incomplete = None
    for folder in folders:
        there = files_in(root / folder)
        found = {name: path for name in names if (path := find_file(there, name))}
        if len(found) == len(names):
            paths, num_train = tuple(found.values()), len(data.train.files)
            return SplitPaths(paths[:num_train], paths[num_train:])
        if found and incomplete is None:
            missing = [name for name in names if name not in found]
            one = next(iter(found.values()))
            incomplete = f"{one}: beside it, {', '.join(missing)} is missing."
            incomplete += "".join(
                f" {path.name} is an unfinished download."
                for path in unfinished_downloads(there, missing)
            )
    if incomplete is not None:
        raise DataError(incomplete)
    return None


def read_original_files(
    data: PublishedData, split: PublishedSplit, paths: Sequence[pathlib.Path]
) -> Arrays:
    """Reads the files of one split."""
    read = _READERS[data.format]
    return read(paths, split.files, data.image_shape, split.num_images)


def refuse_unusable_files(data: PublishedData, root: pathlib.Path) -> None:
    """Says of files that are of the data set why they are not read."""
    names = file_names(data)
    for folder in (".", *data.folders):
        there = files_in(root / folder)
        for name in data.archives:
            if path := find_file(there, name):
                _refuse_archive(path, names)
        for name in data.pickled:
            if path := find_file(there, name):
                raise DataError(
                    f"{path}: belongs to the Python version of {data.title}, which is "
                    "pickled. It is never loaded, since a pickle can run any program. "
                    f"The binary version ({data.archives[0]}) is read: "
                    f"{', '.join(names)}."
                )
        wanted = (*names, *data.archives, "train.parquet", "test.parquet")
        for path in unfinished_downloads(there, wanted):
            raise DataError(
                f"{path}: is an unfinished download. Wait until it is done, or download "
                "the file again."
            )


def _refuse_archive(path: pathlib.Path, names: Sequence[str]) -> None:
    head = read_head(path)
    content = content_of(head)
    if content is not None and not head.startswith(GZIP) and "tar" not in content.what:
        raise DataError(f"{path}: is {content.what}. {content.advice}.")
    raise DataError(
        f"{path}: has to be unpacked (tar -xf {path.name}), to give {', '.join(names)}."
    )


_READERS: Mapping[str, Callable[..., Arrays]] = {
    "idx": read_idx_files,
    "svhn": read_svhn_file,
    "cifar10": read_cifar_files,
    "cifar100": functools.partial(read_cifar_files, label_bytes=2),
}
