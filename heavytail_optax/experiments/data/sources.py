"""The three places where images may be, tried one after the other."""

import collections
import functools
import pathlib
from collections.abc import Callable

import numpy as np

from ..errors import USAGE, DataError, SourceMissingError
from ..files import expanded
from . import data_files
from .catalogue import PublishedData, PublishedSplit
from .data_files import Paths, find_files
from .dataset import RawDataset, RawSplit
from .decoded_images import ReadImages, read_images
from .image_folders import LAYOUT, find_images, image_folders_in
from .published_files import import_extra, read_parquet_files, read_published_files

_Read = Callable[[PublishedData, PublishedSplit, Paths], RawSplit]


def read_published_data(
    data: PublishedData, data_dir: pathlib.Path | None, read: ReadImages = read_images
) -> RawDataset:
    """Reads a data set from the data directory, else from the system's package or the hub.

    Of the last two, one without any of the files is passed over. Damaged or foreign
    files, or only some of them, are an error.
    """
    sources = [_from_system_package, _from_hub]
    if data_dir is not None:
        sources = [functools.partial(_from_data_dir, expanded(data_dir), read)]
    reasons = []
    for source in sources:
        try:
            return source(data)
        except SourceMissingError as reason:
            reasons.append(str(reason))
        except OSError as error:
            path = pathlib.Path(str(error.filename))
            raise data_files.unreadable(path, error) from error
    problem = f"The images of {data.title} could not be loaded"
    if data_dir is None:
        raise DataError(f"{problem}. {_three_ways(data, *reasons)}")
    raise DataError(
        f"{problem}: {reasons[0]}. The directory must have {_files(data)}. They are "
        "looked for nowhere else.",
        exit_status=USAGE,
    )


def _from_data_dir(
    root: pathlib.Path, read_folder: ReadImages, data: PublishedData
) -> RawDataset:
    for read in (read_published_files, read_parquet_files):
        if raw := _read_folder(data, root, read, "data directory"):
            return raw
    for place in image_folders_in(root, data.folders):
        return _read_images(data, place, read_folder)
    data_files.refuse_unusable_files(data, root)
    there = data_files.what_is_there(data, root)
    raise SourceMissingError(f"{root} has none of the files. {there}")


def _read_images(
    data: PublishedData, root: pathlib.Path, read: ReadImages
) -> RawDataset:
    """The published images as a folder of images, of which sizes and numbers are known."""
    found = find_images(root)
    for name in ("train", "test"):
        labels = found.labels(getattr(found, name))
        _check_labels(str(root / name), labels, getattr(data, name))
    return read(found, image_shape=data.image_shape)


def _from_system_package(data: PublishedData) -> RawDataset:
    if data.package is None:
        raise SourceMissingError("there is no package to look for")
    root, source = pathlib.Path(data.package_folder), f"system package {data.package}"
    if raw := _read_folder(data, root, read_published_files, source):
        return raw
    raise SourceMissingError(f"{root} has no files of it")


def _from_hub(data: PublishedData) -> RawDataset:
    """Downloads the Parquet files, or takes those that an earlier download left."""
    hub, name = import_extra("huggingface_hub"), data.hub
    patterns = [f"{data.hub_folder}/{split}-*.parquet" for split in ("train", "test")]
    try:
        root = pathlib.Path(
            hub.snapshot_download(name, repo_type="dataset", allow_patterns=patterns)
        )
    except Exception as error:  # no network, no disk, no such repository, ...
        reason = str(error) or type(error).__name__
        raise SourceMissingError(f"{name} could not be loaded: {reason}") from error
    if raw := _read_folder(data, root, read_parquet_files, f"Hugging Face hub, {name}"):
        return raw
    raise SourceMissingError(f"{name} has no Parquet files in {data.hub_folder}")


def _read_folder(
    data: PublishedData, root: pathlib.Path, read: _Read, source: str
) -> RawDataset | None:
    """Both splits, from the first folder that has the files; None if no folder does."""
    splits = (data.train, data.test)
    names = [split.files for split in splits]
    if read is read_parquet_files:
        names = [["train*.parquet"], ["test*.parquet"]]
    found = find_files(root, (*data.folders, data.hub_folder), *names)
    if found is None:
        return None
    train, test = (read(data, *each) for each in zip(splits, found, strict=True))
    for split, paths, raw in zip(splits, found, (train, test), strict=True):
        _check_labels(", ".join(map(str, paths)), raw.labels, split)
    files = tuple(path.name for paths in found for path in paths)
    return RawDataset(train, test, source, files)


def _check_labels(where: str, labels: np.ndarray, split: PublishedSplit) -> None:
    """Checks that each label is there as often as in the published data set."""
    wanted = collections.Counter(dict(enumerate(split.class_counts)))
    got = collections.Counter(labels.tolist())
    # First those that no image may have.
    for label in sorted({*wanted, *got}, key=lambda label: (label in wanted, label)):
        if got[label] != wanted[label]:
            raise DataError(
                f"{where}: {wanted[label]:,} images must have the "
                f"label {label}. Got {got[label]:,}, so these are not the published data."
            )


def _files(data: PublishedData) -> str:
    names = ", ".join((*data.train.files, *data.test.files))
    hub = "the hub's train-*.parquet and test-*.parquet"
    return f"{names} (each may be .gz), {hub}, or images as {LAYOUT}"


def _three_ways(data: PublishedData, in_system: str, on_hub: str) -> str:
    package = f"apt install {data.package}" if data.package else "none has it"
    return (
        "There are three ways to give them:"
        f"\n1. --data-dir DIR, a directory with {_files(data)}."
        f"\n2. A package of the operating system: {package}. Failed: {in_system}."
        f"\n3. The Hugging Face hub, {data.hub}; be online the first time. Failed: "
        f"{on_hub}."
    )
