"""The data of a job: read, cut to the settings, and some labels made random."""

import pathlib

import jax
import jax.numpy as jnp

from heavytail_optax.experiments.data._arrays import Arrays
from heavytail_optax.experiments.data._catalogue import CATALOGUE, PublishedData
from heavytail_optax.experiments.data._corruption import corrupt_labels
from heavytail_optax.experiments.data._dataset import Dataset, Split
from heavytail_optax.experiments.data._digits import load_digits
from heavytail_optax.experiments.data._errors import DataError
from heavytail_optax.experiments.data._pixels import pad_to_size
from heavytail_optax.experiments.data._sources import Loaded, read_published_data
from heavytail_optax.experiments.settings import DataSettings


def load_dataset(
    settings: DataSettings, key: jax.Array, data_dir: pathlib.Path | None = None
) -> Dataset:
    """Loads the images and draws the random labels.

    The first `clean_examples` training images keep their labels, the next
    `corrupted_examples` get random ones. The order is that of the files, the same for
    every seed. The test images are the first `test_examples` of theirs.

    scikit-learn's digits are one file: the images after the training images are for
    testing. They are sorted by writer, so that the test digits are by other hands.

    Images stay bytes, a quarter of the memory of float32: see `normalise`.
    """
    if settings.data == "digits":
        loaded, num_classes = _digits(settings), 10
    else:
        data = CATALOGUE[settings.data]
        _check_settings(settings, data)
        loaded, num_classes = read_published_data(data, data_dir), data.num_classes
        if settings.swap_train_and_test:
            loaded = loaded._replace(train=loaded.test, test=loaded.train)
    train = _to_device(loaded.train, settings.training_examples, settings.image_size)
    train_labels = corrupt_labels(
        key, train.labels, first=settings.clean_examples, num_classes=num_classes
    )
    return Dataset(
        train=Split(train.images, train_labels),
        test=_to_device(loaded.test, settings.test_examples, settings.image_size),
        true_train_labels=train.labels,
        num_classes=num_classes,
        source=loaded.source,
        files=loaded.files,
    )


def _digits(settings: DataSettings) -> Loaded:
    images, labels = load_digits(settings.image_size)
    num_train = settings.training_examples
    if settings.swap_train_and_test:
        raise DataError(
            "The `swap_train_and_test` setting must be False for digits, which are one "
            "file. Got True instead."
        )
    if num_train >= len(labels):
        raise DataError(
            "The `clean_examples` and `corrupted_examples` settings must leave at least "
            f"one of the {len(labels)} images for testing. "
            f"Got {settings.clean_examples} and {settings.corrupted_examples} instead."
        )
    _check_test_examples(settings, len(labels) - num_train, "digits")
    train = Arrays(images[:num_train], labels[:num_train])
    test = Arrays(images[num_train:], labels[num_train:])
    return Loaded(train, test, "scikit-learn", ())


def _check_settings(settings: DataSettings, data: PublishedData) -> None:
    """Checks what can be known before a file is read."""
    native = max(data.image_shape[:2])
    if settings.image_size < native:
        raise DataError(
            f"The `image_size` setting must be at least {native}, the size of the "
            f"images of {data.title}. Got {settings.image_size} instead."
        )
    train, test = data.train.num_images, data.test.num_images
    if settings.swap_train_and_test:
        train, test = test, train
    if settings.training_examples > train:
        raise DataError(
            "The `clean_examples` and `corrupted_examples` settings must together be "
            f"at most the {train:,} images of {data.title} that may be trained on. "
            f"Got {settings.clean_examples} and {settings.corrupted_examples} instead."
        )
    _check_test_examples(settings, test, data.title)


def _check_test_examples(settings: DataSettings, available: int, title: str) -> None:
    if settings.test_examples is not None and settings.test_examples > available:
        raise DataError(
            f"The `test_examples` setting must be at most the {available:,} test images "
            f"of {title}. Got {settings.test_examples} instead."
        )


def _to_device(arrays: Arrays, number: int | None, image_size: int) -> Split:
    """The first images, on the default device; all of them if `number` is None."""
    images = pad_to_size(arrays.images[:number], image_size)
    return Split(jnp.asarray(images), jnp.asarray(arrays.labels[:number], jnp.int32))
