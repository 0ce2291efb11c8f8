"""Folders of images, one for each class: which images there are, and in which order."""

import hashlib
import os
import pathlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import USAGE, DataError
from ..setting_rules import misfit
from . import data_files

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
LAYOUT = "train/CLASS/* and test/CLASS/*"

_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini", "__macosx")


class ImageFile(NamedTuple):
    """An image that has not been opened."""

    path: str
    name: str  # CLASS/NAME, the same on all file systems
    size: int  # in bytes
    times: tuple[int, int]  # of its content, of its name or owner; in nanoseconds

    @property
    def class_name(self) -> str:
        """The name of its folder."""
        return self.name.partition("/")[0]

    @property
    def checksum(self) -> bytes:
        """What the images are ordered by."""
        return hashlib.sha256(encoded(self.name)).digest()


class ImageFolder(NamedTuple):
    """The images of both splits, each in its order, and the classes by their numbers."""

    train: Sequence[ImageFile]
    test: Sequence[ImageFile]
    class_names: tuple[str, ...]
    root: pathlib.Path

    def labels(self, files: Sequence[ImageFile]) -> np.ndarray:
        """The numbers of their classes."""
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return np.array([numbers[file.class_name] for file in files])


_Classes = Mapping[str, Sequence[ImageFile]]


def image_folders_in(root: pathlib.Path, names: Sequence[str]) -> list[pathlib.Path]:
    """Those of the folders, or the root, where train/ or test/ has a folder."""
    return [
        split.parent
        for name in (*names, ".")
        for split in data_files.matching(
            data_files.files_in(root, name), "train", "test"
        )
        if split.is_dir() and any(entry.is_dir() for entry in os.scandir(split))
    ]


def find_images(root: pathlib.Path, test_share: float | None = None) -> ImageFolder:
    """Finds the images of both splits; without test/, a share of each class is for testing.

    Classes are numbered by their sorted names. The order is that of checksums of the
    names: the first images are a random sample, the same one on every file system.
    """
    try:
        train, test = _splits(root, test_share)
    except OSError as error:
        raise data_files.unreadable(pathlib.Path(error.filename), error) from error
    return ImageFolder(_in_order(train), _in_order(test), tuple(sorted(train)), root)


def _splits(root: pathlib.Path, test_share: float | None) -> tuple[_Classes, _Classes]:
    there = data_files.files_in(root)
    places = {name: path for name, path in there.items() if path.is_dir()}
    if "test" in places and "train" not in places:
        raise DataError(f"{places['test']}: beside it, the folder train is missing.")
    train = _classes_in(places.get("train", root))
    if len(train) < 2:
        problem = f"must have two or more classes in {LAYOUT}"
        got = ", ".join(train) or "none"
        raise DataError(f"{root}: {problem}. Got {got} instead.", exit_status=USAGE)
    if "test" not in places:
        return _drawn(root, train, test_share)
    if test_share is not None:
        accepted = f"left out, since there is {places['test']}"
        raise misfit("test_share", accepted, test_share)
    test = _classes_in(places["test"])
    if not test:
        raise DataError(f"{places['test']}: has no classes. Remove it, or add images.")
    problem = f"is a class that {places['train']} does not have"
    advice = "Add images of it there, or move this folder away"
    data_files.refuse_all(
        [
            f"{os.path.dirname(files[0].path)}: {problem}. {advice}."
            for name, files in test.items()
            if name not in train
        ]
    )
    return train, test


def _drawn(
    root: pathlib.Path, classes: _Classes, test_share: float | None
) -> tuple[_Classes, _Classes]:
    """For training and for testing, a share of each class, but not its last image."""
    if test_share is None:
        advice = "Give --test-share 0.2 to test on a fifth of all images"
        raise DataError(
            f"{root}: has no folder test. {advice}, drawn at random.", exit_status=USAGE
        )
    train, test = {}, {}
    for name, files in classes.items():
        number = min(round(test_share * len(files)), len(files) - 1)
        ordered = sorted(files, key=lambda file: file.checksum)
        train[name], test[name] = ordered[number:], ordered[:number]
    if not any(test.values()):
        accepted = f"large enough for one of the images of a class in {root}"
        raise misfit("test_share", accepted, test_share)
    return train, test


def _in_order(classes: _Classes) -> Sequence[ImageFile]:
    files = (file for each in classes.values() for file in each)
    return sorted(files, key=lambda file: file.checksum)


def _classes_in(place: pathlib.Path) -> _Classes:
    """Name of a class -> its images."""
    classes: dict[str, Sequence[ImageFile]] = {}
    problems: list[str] = []
    for entry in _entries(place):
        path = entry.path
        if not entry.is_dir():
            if _has_suffix(entry.name):
                problem = "is in no class. Move it to the folder of its class"
                problems.append(f"{path}: {problem}.")
            continue
        name = _plain(entry.name)
        if name in classes:
            problem = "there are two folders of this name. Rename one"
            problems.append(f"{path}: {problem}.")
            continue
        there = _entries(path)
        if not there:
            problem = "has no images. Add some, or remove the folder"
            problems.append(f"{path}: {problem}.")
        classes[name] = [
            image for each in there if (image := _image_file(each, name, problems))
        ]
    data_files.refuse_all(problems)
    return classes


def _entries(place: pathlib.Path) -> Sequence[os.DirEntry[str]]:
    """What is in a folder, but for what is hidden or was left by an operating system."""
    with os.scandir(place) as entries:
        there = sorted(entries, key=lambda entry: entry.name)
    return [
        entry
        for entry in there
        if not entry.name.startswith(".") and entry.name.lower() not in _LEFT_BY_SYSTEMS
    ]


def _image_file(
    entry: os.DirEntry[str], class_name: str, problems: list[str]
) -> ImageFile | None:
    """The image; None, and a problem more, where there is something else."""
    path = entry.path
    if entry.is_dir():
        problem = "is a folder within that of a class. Move its images up"
        problems.append(f"{path}: {problem}, or the folder away.")
        return None
    if not _has_suffix(entry.name):
        problem = f"the name must end in {', '.join(SUFFIXES)}, in any case of letters"
        problems.append(f"{path}: {problem}. Convert the file, or move it away.")
        return None
    status = entry.stat()
    if not entry.is_file():
        problems.append(f"{path}: is no file. Move it away.")
        return None
    name = f"{class_name}/{_plain(entry.name)}"
    times = status.st_mtime_ns, status.st_ctime_ns
    return ImageFile(path, name, status.st_size, times)


def _has_suffix(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def encoded(name: str) -> bytes:
    """The bytes of a name, which on some file systems are no text."""
    return name.encode("utf-8", "surrogateescape")


def _plain(name: str) -> str:
    """The same everywhere: some file systems take letters and accents apart."""
    return unicodedata.normalize("NFC", name)
