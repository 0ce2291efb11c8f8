"""From the settings to the data of a run: read, cut, padded, some labels random."""

import dataclasses
import pathlib
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from ..errors import USAGE, DataError
from ..files import expanded
from ..setting_rules import message, misfit
from ..settings import DataSettings
from .catalogue import CATALOGUE, PublishedData
from .dataset import Dataset, RawDataset, RawSplit, Split, pad_to_size
from .decoded_images import ReadImages, read_images
from .image_folders import LAYOUT, ImageFolder, find_images
from .sources import read_published_data

_DIGITS_SIZE = 28  # where no other is given
_BLACKEST = 16  # the digits' pixels go from 0 to this


def load_digits(image_size: int | None) -> RawSplit:
    """All 1,797 digits, resized bilinearly from 8x8 and scaled from [0, 16] to bytes."""
    from sklearn import datasets

    digits = datasets.load_digits()
    images = digits.images.astype(np.int64)
    # In integers, so that every machine rounds to the same bytes.
    weights = _weights(images.shape[1], image_size or _DIGITS_SIZE)
    resized = np.einsum("ij,njk,lk->nil", weights, images, weights)
    whole = _BLACKEST * weights[0].sum() ** 2
    pixels = (2 * 255 * resized + whole) // (2 * whole)
    return RawSplit(pixels.astype(np.uint8)[..., np.newaxis], digits.target)


def _weights(old: int, new: int) -> np.ndarray:
    """Weights of linear interpolation times 2 * new, shape (new, old).

    The centre of pixel i of the new ones lies at (i + 1/2) * old / new - 1/2 among the
    old ones; beyond the outermost centres, the outermost pixel goes on.
    """
    centres = (2 * np.arange(new) + 1) * old - new
    centres = np.clip(centres, 0, 2 * new * (old - 1))
    distances = np.abs(centres[:, np.newaxis] - 2 * new * np.arange(old))
    return np.maximum(0, 2 * new - distances)


def read_dataset(
    settings: DataSettings,
    data_dir: pathlib.Path | None = None,
    catalogue: Mapping[str, PublishedData] = CATALOGUE,
    read: ReadImages = read_images,
) -> Dataset:
    """Reads the first images of each split, in the order of the files, for all seeds."""
    check_data_dir(settings, data_dir)
    if settings.data != "folder" and settings.test_share is not None:
        accepted = f"left out with {settings.data}, which has images for testing"
        raise misfit("test_share", accepted, settings.test_share)
    if settings.data == "digits":
        raw, num_classes = _load_digits(settings), 10
    elif settings.data == "folder":
        found, *numbers = _find_folder(settings, data_dir)
        _check_numbers(settings, str(data_dir), *numbers)
        raw = read(found, settings.image_size)
        num_classes = len(raw.class_names)
    else:
        data = catalogue[settings.data]
        _check_settings(settings, data)
        raw, num_classes = read_published_data(data, data_dir, read), data.num_classes
    if settings.swap_train_and_test:
        raw = raw._replace(train=raw.test, test=raw.train)
    train = _to_device(raw.train, settings.training_examples, settings.image_size)
    return Dataset(
        train=train,
        test=_to_device(raw.test, settings.test_examples, settings.image_size),
        true_train_labels=train.labels,
        num_classes=num_classes,
        source=raw.source,
        files=raw.files,
        class_names=raw.class_names,
    )


def check_data_dir(settings: DataSettings, data_dir: pathlib.Path | None) -> None:
    """A directory that is named must be one, and for data that have files."""
    accepted = "the folder that the files are in"
    if settings.data == "folder":
        accepted = f"the folder with {LAYOUT}"
    elif data_dir is None:
        return
    if settings.data == "digits":
        accepted = "left out with the digits, which come with scikit-learn"
    elif data_dir is not None and expanded(data_dir).is_dir():
        return
    text = message("data_dir", accepted, data_dir and str(data_dir), "option")
    if data_dir is not None and settings.data != "digits":
        what = "a file" if expanded(data_dir).exists() else "not there"
        text = f"{text.removesuffix('.')}, which is {what}."
    raise DataError(text, exit_status=USAGE)


def count_images(settings: DataSettings, data_dir: pathlib.Path | None) -> DataSettings:
    """The settings with all images of a folder, where no number is given."""
    clean, corrupted = settings.clean_examples, settings.corrupted_examples
    if settings.data != "folder" or None not in (clean, settings.test_examples):
        return settings
    check_data_dir(settings, data_dir)
    _, train, test = _find_folder(settings, data_dir)
    if clean is None and corrupted > train:
        accepted = f"at most the {train:,} images that may be trained on"
        raise misfit("corrupted_examples", accepted, corrupted)
    return dataclasses.replace(
        settings,
        clean_examples=train - corrupted if clean is None else clean,
        test_examples=settings.test_examples or test,
    )


def _find_folder(
    settings: DataSettings, data_dir: pathlib.Path | None
) -> tuple[ImageFolder, int, int]:
    """What it has, and the numbers of images for training and for testing."""
    assert data_dir is not None  # as was checked
    found = find_images(expanded(data_dir), settings.test_share)
    if settings.swap_train_and_test:
        return found, len(found.test), len(found.train)
    return found, len(found.train), len(found.test)


def _load_digits(settings: DataSettings) -> RawDataset:
    """One file, sorted by writer: the digits after the training images are for testing."""
    if settings.swap_train_and_test:
        accepted = "False for digits, which are one file"
        raise misfit("swap_train_and_test", accepted, value=True)
    images, labels = load_digits(settings.image_size)
    num_train = settings.training_examples
    _check_numbers(settings, "digits", len(labels) - 1, len(labels) - num_train)
    train = RawSplit(images[:num_train], labels[:num_train])
    test = RawSplit(images[num_train:], labels[num_train:])
    return RawDataset(train, test, "scikit-learn", ())


def _check_settings(settings: DataSettings, data: PublishedData) -> None:
    """Checks what can be known before a file is read."""
    native = max(data.image_shape[:2])
    if settings.image_size is not None and settings.image_size < native:
        accepted = f"at least {native}, the size of the images of {data.title}"
        raise misfit("image_size", accepted, settings.image_size)
    train, test = data.train.num_images, data.test.num_images
    if settings.swap_train_and_test:
        train, test = test, train
    _check_numbers(settings, data.title, train, test)


def _check_numbers(settings: DataSettings, title: str, train: int, test: int) -> None:
    clean, corrupted = settings.clean_examples, settings.corrupted_examples
    if settings.training_examples > train:
        raise DataError(
            "The `clean_examples` and `corrupted_examples` settings must together be at "
            f"most the {train:,} images of {title} that may be trained on. "
            f"Got {clean} and {corrupted} instead.",
            exit_status=USAGE,
        )
    if settings.test_examples is not None and settings.test_examples > test:
        accepted = f"at most the {test:,} test images of {title}"
        raise misfit("test_examples", accepted, settings.test_examples)


def _to_device(raw: RawSplit, number: int | None, image_size: int | None) -> Split:
    """The first images, on the default device; all of them if `number` is None."""
    images = raw.images[:number]
    if image_size is not None:
        images = pad_to_size(images, image_size)
    return Split(jnp.asarray(images), jnp.asarray(raw.labels[:number], jnp.int32))
