import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from heavytail_optax.experiments.data import (
    corrupt_labels,
    describe_dataset,
    load_dataset,
)


def test_digits_are_split_in_the_order_of_the_file(tiny, tiny_dataset):
    labels = load_digits().target
    num_train = tiny.training_examples
    train, test = tiny_dataset.train, tiny_dataset.test
    assert train.images.shape == (num_train, 16, 16, 1)
    assert test.images.shape == (len(labels) - num_train, 16, 16, 1)
    assert train.images.dtype == jnp.float32 and train.labels.dtype == jnp.int32
    np.testing.assert_array_equal(test.labels, labels[num_train:])
    np.testing.assert_array_equal(tiny_dataset.true_train_labels, labels[:num_train])
    clean = tiny.clean_examples
    np.testing.assert_array_equal(train.labels[:clean], labels[:clean])


def test_images_fill_the_range_and_keep_their_shape(tiny):
    settings = dataclasses.replace(tiny, image_size=24)
    images = load_dataset(settings, jax.random.key(0)).train.images
    assert images.min() == -1 and images.max() <= 1 and images.max() > 0.9
    # The mean over each 3x3 square that a pixel became, near the pixel.
    small = load_digits().images[: len(images)] / 8 - 1
    means = images.reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4))
    assert np.corrcoef(means.ravel(), small.ravel())[0, 1] > 0.97


def test_random_labels_are_seeded_uniform_and_only_where_asked():
    labels = jnp.full(20_000, 3, jnp.int32)
    noisy = corrupt_labels(jax.random.key(0), labels, first=10_000, num_classes=10)
    assert (noisy[:10_000] == 3).all()
    # Each count is binomial with standard deviation 30: a false alarm in 1e5 runs.
    counts = np.bincount(noisy[10_000:], minlength=10)
    assert counts.size == 10 and np.abs(counts - 1000).max() < 150
    again = corrupt_labels(jax.random.key(0), labels, first=10_000, num_classes=10)
    np.testing.assert_array_equal(noisy, again)
    other = corrupt_labels(jax.random.key(1), labels, first=10_000, num_classes=10)
    assert (noisy != other).any()


def test_description_tells_labels_apart(tiny, tiny_dataset):
    first = describe_dataset(tiny_dataset)
    wrong = tiny_dataset.train.labels != tiny_dataset.true_train_labels
    assert first["wrong_train_labels"] == wrong.sum() > 10
    assert first["train_images"] + first["test_images"] == 1797
    other = describe_dataset(load_dataset(tiny, jax.random.key(123)))
    assert other["labels_sha256"] != first["labels_sha256"]


def test_an_image_must_be_left_for_testing(tiny):
    settings = dataclasses.replace(tiny, clean_examples=1797, corrupted_examples=0)
    with pytest.raises(ValueError, match="at least one of the 1797 images"):
        load_dataset(settings, jax.random.key(0))
