"""The files that the authors of a data set distribute, in a directory."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from heavytail_optax.experiments.data._arrays import Arrays
from heavytail_optax.experiments.data._catalogue import PublishedData, PublishedSplit
from heavytail_optax.experiments.data._cifar import read_cifar_files
from heavytail_optax.experiments.data._errors import DataError
from heavytail_optax.experiments.data._idx import read_idx_files
from heavytail_optax.experiments.data._svhn import read_svhn_file


class SplitPaths(NamedTuple):
    """The files of both splits, in order."""

    train: tuple[pathlib.Path, ...]
    test: tuple[pathlib.Path, ...]


def find_original_files(
    data: PublishedData, root: pathlib.Path, folders: Sequence[str]
) -> SplitPaths | None:
    """The first folder that has all files, each as it is or with .gz appended.

    Args:
      data: whose files.
      root: directory that the folders are in.
      folders: relative to it.

    Returns:
      The files, or None if no folder has any.

    Raises:
      DataError: if a folder has some of the files, and none has all.
    """
    names = [file.name for file in (*data.train.files, *data.test.files)]
    incomplete = None
    for folder in folders:
        paths = {name: _existing(root / folder / name) for name in names}
        found = [path for path in paths.values() if path is not None]
        if len(found) == len(names):
            num_train = len(data.train.files)
            return SplitPaths(tuple(found[:num_train]), tuple(found[num_train:]))
        if found and incomplete is None:
            missing = [name for name, path in paths.items() if path is None]
            incomplete = f"{found[0]}: beside it, {', '.join(missing)} is missing."
    if incomplete is not None:
        raise DataError(incomplete)
    return None


def read_original_files(
    data: PublishedData, split: PublishedSplit, paths: Sequence[pathlib.Path]
) -> Arrays:
    """Reads the files of one split.

    Args:
      data: whose files.
      split: which of its two.
      paths: of the files, in the order of `split.files`.

    Raises:
      DataError: naming the file, if one is not the published one.
    """
    read = _READERS[data.format]
    return read(paths, split.files, data.image_shape, split.num_images)


def refuse_unusable_files(data: PublishedData, root: pathlib.Path) -> None:
    """Says of files that are of the data set why they are not read.

    Raises:
      DataError: if there are archives, or the version of pickled files.
    """
    files = ", ".join(file.name for file in (*data.train.files, *data.test.files))
    for name in data.archives:
        if (root / name).exists():
            raise DataError(f"{root / name}: has to be unpacked, to give {files}.")
    for name in data.pickled:
        if (root / name).exists():
            raise DataError(
                f"{root / name}: belongs to the Python version of {data.title}, which "
                "is pickled. It is never loaded, since a pickle can run any program. "
                f"The binary version ({data.archives[0]}) is read: {files}."
            )


def _existing(path: pathlib.Path) -> pathlib.Path | None:
    for candidate in (path, path.with_name(f"{path.name}.gz")):
        if candidate.exists():
            return candidate
    return None


_READERS: Mapping[str, Callable[..., Arrays]] = {
    "idx": read_idx_files,
    "svhn": read_svhn_file,
    "cifar10": read_cifar_files,
    "cifar100": functools.partial(read_cifar_files, label_bytes=2),
}
