"""Images and labels of a job, and their description."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np


class Split(NamedTuple):
    """Images with their labels."""

    images: jax.Array  # shape=(n, height, width, channels), dtype=uint8, 0 is black
    labels: jax.Array  # shape=(n,), dtype=int32


class Dataset(NamedTuple):
    """What a job trains on (with its random labels) and is tested on."""

    train: Split
    test: Split
    true_train_labels: jax.Array  # shape=(n_train,), dtype=int32, before corruption
    num_classes: int
    source: str  # where the images come from, in words
    files: tuple[str, ...]  # names of the files read, without their directory


def describe_dataset(dataset: Dataset) -> dict[str, int | str]:
    """Sizes, checksums and the source, to be stored with a run.

    Images are bytes, and their resizing is exact, so that their checksum is the same
    on every machine.
    """
    train, test = dataset.train, dataset.test
    wrong = train.labels != dataset.true_train_labels
    return {
        "train_images": int(train.labels.size),
        "test_images": int(test.labels.size),
        "classes": dataset.num_classes,
        "wrong_train_labels": int(wrong.sum()),
        "labels_sha256": _sha256(train.labels, dataset.true_train_labels, test.labels),
        "images_sha256": _sha256(train.images, test.images),
        "source": dataset.source,
        "files": ", ".join(dataset.files),
    }


def is_same_data(one: Mapping[str, int | str], other: Mapping[str, int | str]) -> bool:
    """Whether two descriptions are of the same images and labels.

    They may come from different sources.

    Example:
      >>> here = {"images_sha256": "f00d", "source": "data_dir", "files": "train.bin"}
      >>> there = {"images_sha256": "f00d", "source": "hub", "files": ""}
      >>> is_same_data(here, there)
      True
    """

    def content(description: Mapping[str, int | str]) -> dict[str, int | str]:
        left_out = ("source", "files")
        return {k: v for k, v in description.items() if k not in left_out}

    return content(one) == content(other)


def _sha256(*arrays: jax.Array) -> str:
    checksum = hashlib.sha256()
    for array in arrays:
        checksum.update(np.ascontiguousarray(array))
    return checksum.hexdigest()
