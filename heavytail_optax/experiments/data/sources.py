"""The three places where images may be, tried one after the other."""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from heavytail_optax.experiments.data.catalogue import PublishedData, PublishedSplit
from heavytail_optax.experiments.data.dataset import RawDataset, RawSplit
from heavytail_optax.experiments.data.folders import Paths, find_files
from heavytail_optax.experiments.data.parquet import import_extra, read_parquet_files
from heavytail_optax.experiments.data.published_files import read_published_files
from heavytail_optax.experiments.data.wrong_files import (
    refuse_unusable_files,
    unreadable,
    what_is_there,
)
from heavytail_optax.experiments.errors import DataError, SourceMissingError


def read_published_data(
    data: PublishedData, data_dir: pathlib.Path | None
) -> RawDataset:
    """Reads a data set from the data directory, the system's package or the hub.

    A source that has nothing of the data set is passed over; one that has damaged or
    foreign files, or only some of them, is an error.
    """
    reasons = []
    for source in (_from_data_dir, _from_system_package, _from_hub):
        try:
            return source(data, data_dir)
        except SourceMissingError as reason:
            reasons.append(str(reason))
        except OSError as error:
            raise unreadable(pathlib.Path(str(error.filename)), error) from error
    raise DataError(_three_ways(data, reasons))


def _from_data_dir(data: PublishedData, data_dir: pathlib.Path | None) -> RawDataset:
    if data_dir is None:
        raise SourceMissingError("no directory was given")
    root = data_dir.expanduser()
    if not root.is_dir():
        problem = "is a file" if root.is_file() else "is not there"
        advice = "--data-dir takes the folder that the files are in"
        raise DataError(f"The data directory {data_dir} {problem}. {advice}.")
    for read in (_read_originals, _read_parquet):
        if raw := read(data, root, "data directory"):
            return raw
    refuse_unusable_files(data, root)
    there = what_is_there(data, root)
    raise SourceMissingError(f"{data_dir} has none of these files. {there}")


def _from_system_package(data: PublishedData, _: pathlib.Path | None) -> RawDataset:
    if data.package is None:
        raise SourceMissingError("there is no package to look for")
    name, folder = data.package
    if raw := _read_originals(data, pathlib.Path(folder), f"system package {name}"):
        return raw
    raise SourceMissingError(f"{folder} has no files of it")


def _from_hub(data: PublishedData, _: pathlib.Path | None) -> RawDataset:
    """Downloads the Parquet files, or takes those that an earlier download left."""
    hub, name = import_extra("huggingface_hub"), data.hub.name
    patterns = [f"{data.hub.config}/{split}-*.parquet" for split in ("train", "test")]
    try:
        root = hub.snapshot_download(name, repo_type="dataset", allow_patterns=patterns)
    except Exception as error:  # no network, no disk, no such repository, ...
        reason = str(error) or type(error).__name__
        raise SourceMissingError(f"{name} could not be loaded: {reason}") from error
    if raw := _read_parquet(data, pathlib.Path(root), f"Hugging Face hub, {name}"):
        return raw
    raise SourceMissingError(f"{name} has no Parquet files in {data.hub.config}")


def _read_originals(
    data: PublishedData, root: pathlib.Path, source: str
) -> RawDataset | None:
    paths = find_files(root, data.folders, data.train.files, data.test.files)
    return paths and _read(data, read_published_files, paths, source)


def _read_parquet(
    data: PublishedData, root: pathlib.Path, source: str
) -> RawDataset | None:
    folders = (data.hub.config, *data.folders)
    paths = find_files(root, folders, ["train*.parquet"], ["test*.parquet"])
    return paths and _read(data, read_parquet_files, paths, source)


def _read(
    data: PublishedData,
    read: Callable[[PublishedData, PublishedSplit, Paths], RawSplit],
    paths: Sequence[Paths],
    source: str,
) -> RawDataset:
    splits = []
    for published, of_split in zip((data.train, data.test), paths, strict=True):
        splits.append(read(data, published, of_split))
        _check_labels(of_split, splits[-1].labels, published.class_counts)
    files = tuple(path.name for of_split in paths for path in of_split)
    return RawDataset(*splits, source, files)


def _check_labels(
    paths: Paths, labels: np.ndarray, class_counts: Sequence[int]
) -> None:
    """The labels must be those of the published data set, but for their order."""
    where, num_classes = ", ".join(map(str, paths)), len(class_counts)
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"{where}: labels must be from 0 to {num_classes - 1}. "
            f"Got labels from {labels.min()} to {labels.max()} instead."
        )
    counts = np.bincount(labels, minlength=num_classes)
    for label, (got, expected) in enumerate(zip(counts, class_counts, strict=True)):
        if got != expected:
            raise DataError(
                f"{where}: {expected:,} images must have the label {label}. "
                f"Got {got:,} of them, so this is not the published data set."
            )


def _three_ways(data: PublishedData, reasons: Sequence[str]) -> str:
    files = ", ".join((*data.train.files, *data.test.files))
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
