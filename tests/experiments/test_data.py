"""The digits, the corruption of labels, pixels, and what is stored of the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from small_data_sets import load_dataset

from heavytail_optax.experiments.data.dataset import (
    describe_dataset,
    is_same_data,
    pad_to_size,
    with_random_labels,
)
from heavytail_optax.experiments.errors import DataError
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.models.networks import normalise


def test_digits_are_split_in_the_order_of_the_file(tiny, tiny_dataset):
    labels = load_digits().target
    num_train = tiny.data.training_examples
    train, test = tiny_dataset.train, tiny_dataset.test
    assert train.images.shape == (num_train, 16, 16, 1)
    assert test.images.shape == (len(labels) - num_train, 16, 16, 1)
    assert train.images.dtype == jnp.uint8 and train.labels.dtype == jnp.int32
    np.testing.assert_array_equal(test.labels, labels[num_train:])
    np.testing.assert_array_equal(tiny_dataset.true_train_labels, labels[:num_train])
    clean = tiny.data.clean_examples
    np.testing.assert_array_equal(train.labels[:clean], labels[:clean])


@pytest.mark.parametrize("image_size", [16, 24, 28, 33])
def test_digits_are_resized_bilinearly(tiny, image_size):
    settings = replaced(tiny, image_size=image_size)
    images = load_dataset(settings.data, jax.random.key(0)).train.images
    small = load_digits().images[: len(images)] * (255 / 16)
    centres = (np.arange(image_size) + 0.5) * 8 / image_size - 0.5
    weights = np.array([np.interp(centres, np.arange(8), row) for row in np.eye(8)])
    expected = np.einsum("ji,njk,kl->nil", weights, small, weights)
    assert np.abs(np.asarray(images)[..., 0] - expected).max() <= 0.5 + 1e-9
    assert images.min() == 0 and images.max() > 240


def test_digits_reach_black_and_white(tiny):
    """In 24 pixels, the middle one of three is the old pixel itself."""
    settings = replaced(tiny, image_size=24)
    images = load_dataset(settings.data, jax.random.key(0)).train.images
    small = load_digits().images[: len(images)]
    pixels = normalise(images, "minus-one-to-one")[:, 1::3, 1::3, 0]
    np.testing.assert_allclose(pixels, small / 8 - 1, atol=1 / 255 + 1e-6)
    pixels = normalise(images, "zero-to-one")[:, 1::3, 1::3, 0]
    np.testing.assert_allclose(pixels, small / 16, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("pixel_range", "expected"),
    [
        ("minus-one-to-one", (np.arange(256) - 127.5) / 127.5),
        ("zero-to-one", np.arange(256) / 255),
    ],
)
def test_pixels_are_normalised(pixel_range, expected):
    images = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)
    pixels = jax.jit(normalise, static_argnums=1)(images, pixel_range)
    assert pixels.dtype == jnp.float32
    np.testing.assert_allclose(pixels.ravel(), expected, rtol=1e-6, atol=1e-7)


def test_padding_is_black_and_centred():
    images = np.full((2, 3, 3, 1), 9, np.uint8)
    padded = pad_to_size(images, 6)
    assert padded.shape == (2, 6, 6, 1) and padded.dtype == np.uint8
    np.testing.assert_array_equal(padded[:, 1:4, 1:4], images)
    assert padded.sum() == images.sum()
    assert pad_to_size(images, 3) is images


def test_random_labels_are_seeded_uniform_and_only_where_asked(tiny_dataset):
    true = jnp.full(20_000, 3, jnp.int32)
    dataset = tiny_dataset._replace(true_train_labels=true)

    def labels(seed):
        key = jax.random.key(seed)
        return with_random_labels(dataset, key, first=10_000).train.labels

    noisy = labels(0)
    assert (noisy[:10_000] == 3).all()
    # Each count is binomial with standard deviation 30: a false alarm in 1e5 runs.
    counts = np.bincount(noisy[10_000:], minlength=10)
    assert counts.size == 10 and np.abs(counts - 1000).max() < 150
    np.testing.assert_array_equal(noisy, labels(0))
    assert (noisy != labels(1)).any()


def test_the_description_tells_labels_and_images_apart(tiny, tiny_dataset):
    first = describe_dataset(tiny_dataset)
    wrong = tiny_dataset.train.labels != tiny_dataset.true_train_labels
    assert first["wrong_train_labels"] == wrong.sum() > 10
    assert first["train_images"] + first["test_images"] == 1797
    assert first["source"] == "scikit-learn" and first["files"] == ""
    other = describe_dataset(load_dataset(tiny.data, jax.random.key(123)))
    assert other["labels_sha256"] != first["labels_sha256"]
    assert other["images_sha256"] == first["images_sha256"]
    assert not is_same_data(first, other)
    images = tiny_dataset.test.images.at[0, 0, 0, 0].add(1)
    test = tiny_dataset.test._replace(images=images)
    other = describe_dataset(tiny_dataset._replace(test=test))
    assert other["images_sha256"] != first["images_sha256"]
    assert not is_same_data(first, other)


def test_the_same_data_may_come_from_elsewhere(tiny_dataset):
    here = describe_dataset(tiny_dataset)
    there = describe_dataset(tiny_dataset._replace(source="a mirror", files=("a",)))
    assert here != there and there["files"] == "a"
    assert is_same_data(here, there)


def test_some_of_the_test_images(tiny, tiny_dataset):
    settings = replaced(tiny, test_examples=50)
    test = load_dataset(settings.data, jax.random.key(0)).test
    np.testing.assert_array_equal(test.images, tiny_dataset.test.images[:50])
    np.testing.assert_array_equal(test.labels, tiny_dataset.test.labels[:50])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"clean_examples": 1797, "corrupted_examples": 0},
            "`clean_examples` .* 1,796 images of digits .* Got 1797 and 0 instead",
        ),
        ({"test_examples": 1698}, "`test_examples`.* 1,697 test images .* Got 1698"),
        ({"swap_train_and_test": True}, "`swap_train_and_test`.* must be False"),
    ],
)
def test_settings_that_the_digits_cannot_meet(tiny, changes, message):
    settings = replaced(tiny, **changes)
    with pytest.raises(DataError, match=message):
        load_dataset(settings.data, jax.random.key(0))
