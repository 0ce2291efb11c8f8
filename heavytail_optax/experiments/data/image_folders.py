"""Folders of images, one for each class: which images there are, and in which order."""

import hashlib
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..errors import DataError
from ..setting_rules import message
from . import folders, wrong_files

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
LAYOUT = "train/CLASS/* and test/CLASS/*"
_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini", "__macosx")


class ImageFile(NamedTuple):
    """An image that has not been opened."""

    path: pathlib.Path
    label: int
    name: str  # CLASS/NAME
    state: tuple[int, int]  # size in bytes, and time of the last change


class ImageFolder(NamedTuple):
    """The files of both splits, in their order, and the classes by their numbers."""

    train: Sequence[ImageFile]
    test: Sequence[ImageFile]
    class_names: tuple[str, ...]

    @property
    def files(self) -> Sequence[ImageFile]:
        """Those of both splits."""
        return [*self.train, *self.test]


def image_folders_in(root: pathlib.Path, names: Sequence[str]) -> list[pathlib.Path]:
    """Those of the folders, or the root, where train/ or test/ has a folder."""
    return [
        split.parent
        for name in (*names, ".")
        for split in folders.matching(folders.files_in(root, name), "train", "test")
        if split.is_dir() and any(entry.is_dir() for entry in os.scandir(split))
    ]


def find_images(root: pathlib.Path, test_share: float | None = None) -> ImageFolder:
    """Finds the images of both splits; without test/, a share of all is for testing.

    Classes are numbered by their sorted names. The order is that of checksums of the
    names: the first images are a random sample, the same one on every file system.
    """
    try:
        return _find_images(root, test_share)
    except OSError as error:
        raise wrong_files.unreadable(pathlib.Path(error.filename), error) from error


def _find_images(root: pathlib.Path, test_share: float | None) -> ImageFolder:
    places = {
        name: path for name, path in folders.files_in(root).items() if path.is_dir()
    }
    train_place, test_place = places.get("train"), places.get("test")
    if test_place is None:
        train = _classes_in(train_place or root)
    elif train_place is None:
        raise DataError(f"{test_place}: beside it, the folder train is missing.")
    else:
        train = _classes_in(train_place)
    if not train:
        raise DataError(
            f"{train_place or root}: has no folder of images. The directory must have "
            f"{LAYOUT}."
        )
    names = sorted(train)
    if test_place is None:
        if test_share is None:
            raise DataError(
                f"{root}: has no folder test. Give --test-share 0.2 to test on a fifth "
                "of the images, drawn at random."
            )
        numbers = {name: round(test_share * len(train[name])) for name in names}
        test = {name: train[name][: numbers[name]] for name in names}
        train = {name: train[name][numbers[name] :] for name in names}
    elif test_share is not None:
        accepted = f"left out: there are images for testing in {test_place}"
        raise DataError(message("test_share", accepted, test_share))
    else:
        test = _classes_in(test_place)
    for name in test:
        if name not in train:
            raise DataError(
                f"{test_place}: the class {name!r} has no images for training. Add them "
                f"to {train_place}, or move the folder away."
            )
    if len(names) < 2:
        raise DataError(
            f"{train_place or root}: there must be at least two classes, each in a "
            f"folder of its own. Got {', '.join(names)} instead."
        )
    for split, which in ((train, "training"), (test, "testing")):
        if not any(split.values()):
            raise DataError(
                f"{root}: no image is left for {which}. Give another --test-share."
            )
    labels = {name: number for number, name in enumerate(names)}
    return ImageFolder(_in_order(train, labels), _in_order(test, labels), tuple(names))


_Found = tuple[str, pathlib.Path, tuple[int, int]]  # name, path, size and time


def _classes_in(place: pathlib.Path) -> dict[str, list[_Found]]:
    """Name of a class -> its images, in the order of their checksums."""
    classes: dict[str, list[_Found]] = {}
    for entry in _entries(place):
        path = pathlib.Path(entry.path)
        if not entry.is_dir():
            if path.suffix.lower() in SUFFIXES:
                raise DataError(f"{path}: is in no class. Move it to a folder of one.")
            continue
        name = _plain(entry.name)
        if name in classes:
            raise DataError(f"{path}: there are two folders of this name. Rename one.")
        images = [_image(inner, name) for inner in _entries(path)]
        if not images:
            raise DataError(f"{path}: has no images. Add some, or remove the folder.")
        classes[name] = sorted(images, key=_checksum)
    return classes


def _entries(place: pathlib.Path) -> list[os.DirEntry[str]]:
    """What is in a folder, but for what is hidden or was left by an operating system."""
    with os.scandir(place) as entries:
        shown = [
            entry
            for entry in entries
            if not entry.name.startswith(".")
            and entry.name.lower() not in _LEFT_BY_SYSTEMS
        ]
    return sorted(shown, key=lambda entry: entry.name)


def _image(entry: os.DirEntry[str], class_name: str) -> _Found:
    path = pathlib.Path(entry.path)
    if entry.is_dir():
        problem = "is a folder within that of a class. Move its images up"
        raise DataError(f"{path}: {problem}, or the folder away.")
    if os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
        accepted = ", ".join(SUFFIXES)
        problem = f"the name must end in one of {accepted}"
        raise DataError(f"{path}: {problem}. Convert the file, or move it away.")
    status = entry.stat()
    if not entry.is_file():
        raise DataError(f"{path}: is no file. Move it away.")
    state = status.st_size, status.st_mtime_ns
    return f"{class_name}/{_plain(entry.name)}", path, state


def _in_order(
    classes: Mapping[str, Iterable[_Found]], labels: Mapping[str, int]
) -> list[ImageFile]:
    files = [
        ImageFile(path, labels[class_name], name, state)
        for class_name, found in classes.items()
        for name, path, state in found
    ]
    return sorted(files, key=lambda file: _checksum((file.name, file.path, file.state)))


def _checksum(found: _Found) -> bytes:
    return hashlib.sha256(found[0].encode("utf-8", "surrogateescape")).digest()


def _plain(name: str) -> str:
    """The same on all file systems, of which some take letters and accents apart."""
    return unicodedata.normalize("NFC", name)
