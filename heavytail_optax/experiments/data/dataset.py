"""The images and labels of a run: random labels, black margin, description."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np


class RawSplit(NamedTuple):
    """The images and labels of one split, as its files hold them."""

    images: np.ndarray  # shape=(n, height, width, channels), dtype=uint8, 0 is black
    labels: np.ndarray  # shape=(n,), an integer dtype


class RawDataset(NamedTuple):
    """Both splits, whole, and where they come from."""

    train: RawSplit
    test: RawSplit
    source: str  # in words
    files: tuple[str, ...]  # names without their directory
    class_names: tuple[str, ...] = ()  # where they are known


class Split(NamedTuple):
    """Images with their labels, on the device."""

    images: jax.Array  # shape=(n, height, width, channels), dtype=uint8, 0 is black
    labels: jax.Array  # shape=(n,), dtype=int32


def evenly_spaced(split: Split, number: int) -> Split:
    """So many images, or all if there are fewer: the last ones may have random labels."""
    total = split.labels.shape[0]
    number = min(number, total)
    chosen = np.arange(number) * total // number
    return Split(split.images[chosen], split.labels[chosen])


class Dataset(NamedTuple):
    """What a run trains on, random labels included, and what it is tested on."""

    train: Split
    test: Split
    true_train_labels: jax.Array  # shape=(n_train,), dtype=int32, before corruption
    num_classes: int
    source: str  # where the images come from, in words
    files: tuple[str, ...]  # names of the files read, without their directory
    class_names: tuple[str, ...] = ()  # where they are known


def with_random_labels(dataset: Dataset, key: jax.Array, first: int) -> Dataset:
    """Draws the training labels from position `first` on, uniformly from all classes.

    As in the paper's protocol, a random label is right with probability 1/num_classes.
    """
    labels = dataset.true_train_labels
    shape, classes = labels[first:].shape, dataset.num_classes
    drawn = jax.random.randint(key, shape, 0, classes, labels.dtype)
    train = dataset.train._replace(labels=labels.at[first:].set(drawn))
    return dataset._replace(train=train)


def pad_to_size(images: np.ndarray, size: int) -> np.ndarray:
    """Puts each image into the middle of a black square."""
    height, width = images.shape[1:3]
    if height == width == size:
        return images
    above, left = (size - height) // 2, (size - width) // 2
    below, right = size - height - above, size - width - left
    return np.pad(images, [(0, 0), (above, below), (left, right), (0, 0)])


def describe_dataset(dataset: Dataset) -> dict[str, int | str]:
    """Sizes, checksums and the source, to be stored with a run."""
    train, test = dataset.train, dataset.test
    wrong = train.labels != dataset.true_train_labels
    return {
        "train_images": int(train.labels.size),
        "test_images": int(test.labels.size),
        "classes": dataset.num_classes,
        "wrong_train_labels": int(wrong.sum()),
        "labels_sha256": _sha256(train.labels, dataset.true_train_labels, test.labels),
        # Images are bytes, resized in integers: the same on every machine.
        "images_sha256": _sha256(train.images, test.images),
        "source": dataset.source,
        "files": ", ".join(dataset.files),
    } | ({"class_names": ", ".join(names)} if (names := dataset.class_names) else {})


def is_same_data(one: Mapping[str, int | str], other: Mapping[str, int | str]) -> bool:
    """Whether two descriptions are of the same images and labels, from any source."""
    sources = {"source", "files"}
    return all(one.get(k) == other.get(k) for k in {*one, *other} - sources)


def checksum_of(dataset: Dataset) -> str:
    """Of all images and true labels: the same for all seeds, which draw other labels."""
    train, test = dataset.train, dataset.test
    return _sha256(train.images, dataset.true_train_labels, test.images, test.labels)


def _sha256(*arrays: jax.Array) -> str:
    checksum = hashlib.sha256()
    for array in arrays:
        checksum.update(np.ascontiguousarray(array))
    return checksum.hexdigest()
