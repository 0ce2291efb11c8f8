"""The three places where images may be, one after the other."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from heavytail_optax.experiments.data._arrays import Arrays, check_labels
from heavytail_optax.experiments.data._catalogue import PublishedData, PublishedSplit
from heavytail_optax.experiments.data._errors import DataError, SourceMissingError
from heavytail_optax.experiments.data._folders import listing
from heavytail_optax.experiments.data._originals import (
    SplitPaths,
    find_original_files,
    read_original_files,
    refuse_unusable_files,
)
from heavytail_optax.experiments.data._parquet import (
    find_parquet_files,
    open_hub,
    read_parquet_files,
    read_rows,
)

_ReadFiles = Callable[[PublishedData, PublishedSplit, Sequence[pathlib.Path]], Arrays]


class Loaded(NamedTuple):
    """Both splits, whole, and where they come from."""

    train: Arrays
    test: Arrays
    source: str  # in words
    files: tuple[str, ...]  # names without their directory


def read_published_data(data: PublishedData, data_dir: pathlib.Path | None) -> Loaded:
    """Reads a data set from the first source that has it.

    They are, in this order: the data directory, the package of the operating system,
    the Hugging Face hub. A source that has nothing of the data set is passed over; one
    that has damaged or foreign files, or only some of them, is an error.
    """
    reasons = []
    from_data_dir = functools.partial(_from_data_dir, data_dir=data_dir)
    for source in (from_data_dir, _from_system_package, _from_hub):
        try:
            return source(data)
        except SourceMissingError as reason:
            reasons.append(str(reason))
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise DataError(f"{error.filename}: {problem}.") from error
    raise DataError(_three_ways(data, reasons))


def _from_data_dir(data: PublishedData, data_dir: pathlib.Path | None) -> Loaded:
    if data_dir is None:
        raise SourceMissingError("no directory was given")
    root = data_dir.expanduser()
    if not root.is_dir():
        problem = "is a file" if root.is_file() else "is not there"
        raise DataError(
            f"The data directory {data_dir} {problem}. --data-dir takes the folder that "
            "the files are in."
        )
    source = "data directory"
    paths = find_original_files(data, root, data.folders)
    if paths is not None:
        return _from_files(data, read_original_files, paths, source)
    parquet = find_parquet_files(root, (data.hub.config, *data.folders))
    if parquet is not None:
        return _from_files(data, read_parquet_files, SplitPaths(*parquet), source)
    refuse_unusable_files(data, root)
    raise SourceMissingError(
        f"{data_dir} has none of these files. {listing(data, root)}"
    )


def _from_system_package(data: PublishedData) -> Loaded:
    if data.package is None:
        raise SourceMissingError("there is no package to look for")
    folder = pathlib.Path(data.package.folder)
    paths = find_original_files(data, folder, (".",))
    if paths is None:
        raise SourceMissingError(f"{folder} has no files of it")
    source = f"system package {data.package.name}"
    return _from_files(data, read_original_files, paths, source)


def _from_hub(data: PublishedData) -> Loaded:
    def read(split: PublishedSplit, name: str) -> Arrays:
        where = f"{data.hub.name}, split {name}"
        rows = open_hub(data.hub, name)
        pieces = [(where, rows)]
        arrays = read_rows(pieces, data.hub, data.image_shape, split.num_images)
        check_labels(where, arrays.labels, split.class_counts)
        return arrays

    train, test = read(data.train, "train"), read(data.test, "test")
    return Loaded(train, test, f"Hugging Face hub, {data.hub.name}", ())


def _from_files(
    data: PublishedData, read: _ReadFiles, paths: SplitPaths, source: str
) -> Loaded:
    def checked(split: PublishedSplit, paths: Sequence[pathlib.Path]) -> Arrays:
        arrays = read(data, split, paths)
        where = ", ".join(str(path) for path in paths)
        check_labels(where, arrays.labels, split.class_counts)
        return arrays

    train, test = checked(data.train, paths.train), checked(data.test, paths.test)
    files = tuple(path.name for path in (*paths.train, *paths.test))
    return Loaded(train, test, source, files)


def _three_ways(data: PublishedData, reasons: Sequence[str]) -> str:
    files = ", ".join(file.name for file in (*data.train.files, *data.test.files))
    package = data.package
    install = f"apt install {package.name}" if package else f"none has {data.title}"
    in_data_dir, in_system, on_hub = reasons
    return (
        f"The images of {data.title} were not found. There are three ways to give them:"
        f"\n1. --data-dir DIR, a directory with {files} (each may be .gz), or with the "
        f"hub's train-*.parquet and test-*.parquet. Failed: {in_data_dir}."
        f"\n2. A package of the operating system: {install}. Failed: {in_system}."
        f"\n3. The Hugging Face hub, {data.hub.name}: pip install "
        f'"heavytail-optax[hub]", and be online the first time. Failed: {on_hub}.'
    )
