"""The published data sets: what is known of them, and the real FashionMNIST."""

import gzip
import pathlib
import typing

import jax
import numpy as np
import pytest
from small_data_sets import load_dataset

from heavytail_optax.experiments.data.catalogue import CATALOGUE, DataName
from heavytail_optax.experiments.data.dataset import describe_dataset
from heavytail_optax.experiments.errors import DataError
from heavytail_optax.experiments.flat_settings import replaced

FASHION_MNIST = CATALOGUE["fashion-mnist"]
FOLDER = pathlib.Path(FASHION_MNIST.package_folder)

needs_fashion_mnist = pytest.mark.skipif(
    not FOLDER.exists(), reason="Debian's dataset-fashion-mnist is not installed"
)


def test_numbers_of_images():
    """As the data sets' own pages state them."""
    published = {
        "fashion-mnist": (60_000, 10_000, 10),
        "svhn": (73_257, 26_032, 10),
        "cifar10": (50_000, 10_000, 10),
        "cifar100": (50_000, 10_000, 100),
    }
    for name, numbers in published.items():
        train, test = CATALOGUE[name].train, CATALOGUE[name].test
        assert (train.num_images, test.num_images, len(train.class_counts)) == numbers
        assert len(test.class_counts) == len(train.class_counts)


def test_every_data_set_can_be_asked_for():
    assert set(typing.get_args(DataName)) == {"digits", "folder", *CATALOGUE}


@pytest.fixture
def settings(tiny):
    return replaced(
        tiny,
        data="fashion-mnist",
        image_size=28,
        clean_examples=1000,
        corrupted_examples=200,
    )


@needs_fashion_mnist
def test_the_protocol_on_the_real_files(settings):
    dataset = load_dataset(settings.data, jax.random.key(0))
    assert dataset.source == "system package dataset-fashion-mnist"
    assert dataset.train.images.shape == (1200, 28, 28, 1)
    assert dataset.test.images.shape == (10_000, 28, 28, 1)
    # An ankle boot, two T-shirts; an ankle boot, a pullover, two pairs of trousers.
    assert dataset.true_train_labels[:8].tolist() == [9, 0, 0, 3, 0, 2, 7, 2]
    assert dataset.test.labels[:8].tolist() == [9, 2, 1, 1, 6, 1, 4, 6]
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    # The boot's first row with ink, as in the authors' own picture of it.
    assert dataset.train.images[0, :3].max() == 0
    assert dataset.train.images[0, 3, 12:16, 0].tolist() == [1, 0, 0, 13]

    true, labels = dataset.true_train_labels, dataset.train.labels
    np.testing.assert_array_equal(labels[:1000], true[:1000])
    # Of 200 uniform labels, 180 are wrong on average, with a standard deviation of 4.2:
    # five of them are a false alarm in 1e6 keys.
    assert abs((labels[1000:] != true[1000:]).sum() - 180) < 22
    again = load_dataset(settings.data, jax.random.key(0))
    np.testing.assert_array_equal(again.train.labels, labels)
    other = load_dataset(settings.data, jax.random.key(1))
    np.testing.assert_array_equal(other.train.labels[:1000], true[:1000])
    assert (other.train.labels[1000:] != labels[1000:]).any()
    assert describe_dataset(again) == describe_dataset(dataset)


@needs_fashion_mnist
def test_the_real_files_as_a_data_directory(settings, tmp_path):
    """Uncompressed, they are the same data; one changed pixel is found."""
    for file in FOLDER.glob("*.gz"):
        (tmp_path / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    key = jax.random.key(0)
    dataset = load_dataset(settings.data, key, tmp_path)
    packaged = load_dataset(settings.data, key)
    assert dataset.source == "data directory"
    np.testing.assert_array_equal(dataset.train.images, packaged.train.images)
    path = tmp_path / "train-images-idx3-ubyte"
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(DataError, match=f"{path}: the MD5 checksum"):
        load_dataset(settings.data, key, tmp_path)
