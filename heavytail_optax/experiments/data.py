"""Images and labels of a job, and the corruption of labels."""

import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax.experiments.settings import Settings


class DataError(ValueError):
    """The settings do not fit the data."""


class Split(NamedTuple):
    """Images with their labels."""

    images: jax.Array  # shape=(n, height, width, channels), dtype=float32, in [-1, 1]
    labels: jax.Array  # shape=(n,), dtype=int32


class Dataset(NamedTuple):
    """What a job trains on (with its random labels) and is tested on."""

    train: Split
    test: Split
    true_train_labels: jax.Array  # shape=(n_train,), dtype=int32, before corruption
    num_classes: int


def load_dataset(settings: Settings, key: jax.Array) -> Dataset:
    """Loads the images and draws the random labels.

    The first `clean_examples` images keep their labels, the next `corrupted_examples`
    get random ones, and all others are for testing. The split is that of the file, the
    same for every seed. In scikit-learn's digits the file is sorted by writer, so that
    the test digits are by other hands than the training digits.

    Args:
      settings: `data`, `image_size`, `clean_examples` and `corrupted_examples` count.
      key: a typed key for the random labels.

    Returns:
      The data, on the default device.

    Raises:
      DataError: if no image is left for testing.
    """
    images, labels = _load_digits(settings.image_size)
    num_train = settings.training_examples
    if num_train >= len(labels):
        raise DataError(
            "The `clean_examples` and `corrupted_examples` settings must leave at least "
            f"one of the {len(labels)} images for testing. "
            f"Got {settings.clean_examples} and {settings.corrupted_examples} instead."
        )
    num_classes = 10
    train_labels = corrupt_labels(
        key,
        labels[:num_train],
        first=settings.clean_examples,
        num_classes=num_classes,
    )
    return Dataset(
        train=Split(images[:num_train], train_labels),
        test=Split(images[num_train:], labels[num_train:]),
        true_train_labels=labels[:num_train],
        num_classes=num_classes,
    )


def corrupt_labels(
    key: jax.Array, labels: jax.Array, *, first: int, num_classes: int
) -> jax.Array:
    """Draws the labels from position `first` on uniformly from all classes.

    A random label is the true one with probability 1/num_classes, as in the paper's
    protocol.

    Args:
      key: a typed key.
      labels: integers of shape (n,).
      first: position of the first random label, from 0 to n.
      num_classes: number of classes.

    Returns:
      Labels of the same shape and dtype.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> labels = jnp.zeros(6, jnp.int32)
      >>> noisy = corrupt_labels(jax.random.key(0), labels, first=3, num_classes=10)
      >>> noisy[:3].tolist()
      [0, 0, 0]
    """
    shape = labels[first:].shape
    drawn = jax.random.randint(key, shape, 0, num_classes, labels.dtype)
    return labels.at[first:].set(drawn)


def describe_dataset(dataset: Dataset) -> dict[str, int | str]:
    """Sizes and a checksum of the labels, to be stored with a run.

    The images are left out: resized on another device, their last digits may differ.
    """
    wrong = dataset.train.labels != dataset.true_train_labels
    checksum = hashlib.sha256()
    for labels in (
        dataset.train.labels,
        dataset.true_train_labels,
        dataset.test.labels,
    ):
        checksum.update(np.ascontiguousarray(labels).tobytes())
    return {
        "train_images": int(dataset.train.labels.size),
        "test_images": int(dataset.test.labels.size),
        "wrong_train_labels": int(wrong.sum()),
        "labels_sha256": checksum.hexdigest(),
    }


def _load_digits(image_size: int) -> tuple[jax.Array, jax.Array]:
    """scikit-learn's digits, resized and scaled from [0, 16] to [-1, 1]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = jnp.asarray(digits.images, jnp.float32)[..., jnp.newaxis] / 8 - 1
    shape = (images.shape[0], image_size, image_size, 1)
    return (
        jax.image.resize(images, shape, "bilinear"),
        jnp.asarray(digits.target, jnp.int32),
    )
