"""Files of FashionMNIST, SVHN and CIFAR in a directory: what is read, what is not."""

import pathlib
import pickle
import tarfile

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_data_sets import (
    NAMES,
    load_dataset,
    original_files,
    random_splits,
    write_files,
    write_random_files,
)

from heavytail_optax.experiments.data.dataset import describe_dataset
from heavytail_optax.experiments.errors import DataError


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("is_direct", [False, True])
def test_files_are_read_as_they_were_written(
    catalogue, load_small, tmp_path, name, compressed, is_direct
):
    data_dir = tmp_path / "data"
    folder = data_dir if is_direct else data_dir / catalogue[name].folders[-1]
    train, test, contents = write_random_files(
        catalogue[name], folder, compressed=compressed
    )
    dataset = load_small(name, data_dir)
    np.testing.assert_array_equal(dataset.train.images, train.images[:20])
    np.testing.assert_array_equal(dataset.true_train_labels, train.labels[:20])
    np.testing.assert_array_equal(dataset.train.labels[:12], train.labels[:12])
    np.testing.assert_array_equal(dataset.test.images, test.images)
    np.testing.assert_array_equal(dataset.test.labels, test.labels)
    for array in (dataset.train.images, dataset.test.images):
        assert isinstance(array, jax.Array) and array.dtype == jnp.uint8
    assert dataset.train.labels.dtype == dataset.test.labels.dtype == jnp.int32
    assert dataset.num_classes == (100 if name == "cifar100" else 10)
    assert dataset.source == "data directory"
    suffix = ".gz" if compressed else ""
    assert dataset.files == tuple(f"{file}{suffix}" for file in contents)
    described = describe_dataset(dataset)
    assert described["files"] == ", ".join(dataset.files)
    assert str(tmp_path) not in str(described)


def test_the_file_of_test_images_may_be_trained_on(catalogue, load_small, tmp_path):
    train, test, _ = write_random_files(catalogue["svhn"], tmp_path)
    dataset = load_small(
        "svhn",
        tmp_path,
        swap_train_and_test=True,
        clean_examples=10,
        corrupted_examples=0,
        test_examples=15,
    )
    np.testing.assert_array_equal(dataset.train.images, test.images)
    np.testing.assert_array_equal(dataset.train.labels, test.labels)
    np.testing.assert_array_equal(dataset.test.images, train.images[:15])
    np.testing.assert_array_equal(dataset.test.labels, train.labels[:15])


def test_images_get_a_black_border(catalogue, load_small, tmp_path):
    train, _, _ = write_random_files(catalogue["fashion-mnist"], tmp_path)
    images = load_small("fashion-mnist", tmp_path, image_size=33).train.images
    assert images.shape == (20, 33, 33, 1)
    np.testing.assert_array_equal(images[:, 2:30, 2:30], train.images)
    assert images.sum(dtype=int) == train.images.sum(dtype=int)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 31}, "`image_size` .* at least 32, .* of SVHN. Got 31"),
        ({"clean_examples": 13}, "at most the 20 images of SVHN .* Got 13 and 8"),
        ({"test_examples": 11}, "`test_examples` .* the 10 test images .* Got 11"),
        (
            {"swap_train_and_test": True},
            "at most the 10 images of SVHN .* Got 12 and 8",
        ),
    ],
)
def test_settings_are_checked_before_any_file_is_looked_for(
    catalogue, load_small, changes, message
):
    with pytest.raises(DataError, match=message):
        load_small("svhn", None, **changes)


def test_the_package_of_the_system_is_found(catalogue, load_small, tmp_path):
    data = catalogue["fashion-mnist"]
    train, _, _ = write_random_files(
        data, pathlib.Path(data.package_folder), compressed=True
    )
    dataset = load_small("fashion-mnist")
    np.testing.assert_array_equal(dataset.train.images, train.images)
    assert dataset.source == "system package dataset-fashion-mnist"
    # A directory that is named is the only place that is looked in.
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with pytest.raises(
        DataError, match=f"{data_dir} has none of the files. It is empty"
    ):
        load_small("fashion-mnist", data_dir)
    write_files(data_dir, original_files(data, *random_splits(data, seed=1)))
    assert load_small("fashion-mnist", data_dir).source == "data directory"


def test_other_labels_are_told(catalogue, load_small, tmp_path, name):
    """As many images, but not as many of each class: MNIST, say."""
    data = catalogue[name]
    train, test = random_splits(data)
    train.labels[0] = (train.labels[0] + 1) % data.num_classes
    write_files(tmp_path, original_files(data, train, test))
    with pytest.raises(DataError, match="images must have the label .* Got ") as e:
        load_small(name, tmp_path)
    assert str(tmp_path) in str(e.value)


def test_a_directory_in_place_of_a_file_is_named(catalogue, load_small, tmp_path, name):
    _, _, contents = write_random_files(catalogue[name], tmp_path)
    file = next(iter(contents))
    (tmp_path / file).unlink()
    (tmp_path / file).mkdir()
    with pytest.raises(DataError, match=f"{file}: cannot be read .Is a directory"):
        load_small(name, tmp_path)


def test_a_missing_file_is_named(catalogue, load_small, tmp_path, name):
    _, _, contents = write_random_files(catalogue[name], tmp_path)
    *_, last = contents
    (tmp_path / last).unlink()
    with pytest.raises(DataError, match=f"beside it, {last} is missing"):
        load_small(name, tmp_path)


def test_a_data_directory_that_is_none(catalogue, load_small, tmp_path):
    (tmp_path / "train_32x32.mat").touch()
    for place in ("nowhere", "train_32x32.mat"):
        with pytest.raises(DataError, match=f"`data_dir` option must be .*{place}"):
            load_small("svhn", tmp_path / place)


@pytest.mark.parametrize("place", [".", "nowhere"])
def test_digits_are_in_no_directory(tiny, tmp_path, place):
    with pytest.raises(DataError, match=f"`data_dir` option must be left .*{tmp_path}"):
        load_dataset(tiny.data, jax.random.key(0), tmp_path / place)


def test_a_named_directory_is_the_only_place(
    catalogue, load_small, tmp_path, name, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *_, **__: asked.append(name)
    )
    (tmp_path / "empty").mkdir()
    first = next(iter(catalogue[name].train.files))
    with pytest.raises(DataError, match=f"empty has none .* must have {first}, "):
        load_small(name, tmp_path / "empty")
    assert asked == []
    with pytest.raises(DataError):
        load_small(name)
    assert asked == [name]


class Trap:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("name", "file", "needed"),
    [
        ("cifar10", "data_batch_1", "cifar-10-binary.tar.gz"),
        ("cifar10", "cifar-10-batches-py/data_batch_1", "data_batch_1.bin"),
        ("cifar10", "cifar-10-python.tar.gz", "test_batch.bin"),
        ("cifar100", "meta", "cifar-100-binary.tar.gz"),
        ("cifar100", "cifar-100-python/train", "train.bin, test.bin"),
    ],
)
def test_pickles_are_refused(catalogue, load_small, tmp_path, name, file, needed):
    sprung = tmp_path / "sprung"
    path = tmp_path / "data" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(DataError, match="pickled. It is never loaded") as error:
        load_small(name, tmp_path / "data")
    assert needed in str(error.value) and not sprung.exists()


def test_pickles_under_the_names_of_other_files_are_never_loaded(
    catalogue, load_small, tmp_path, name
):
    sprung, data_dir = tmp_path / "sprung", tmp_path / "data"
    _, _, contents = write_random_files(catalogue[name], data_dir)
    for file in contents:
        (data_dir / file).write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(DataError):
        load_small(name, data_dir)
    assert not sprung.exists()
    pickle.loads((data_dir / file).read_bytes())
    assert sprung.exists()  # The trap would have worked.


def test_an_archive_is_to_be_unpacked(catalogue, load_small, tmp_path):
    """Also the one from which a browser has taken the compression."""
    for folder, name in (
        (".", "cifar-10-binary.tar.gz"),
        ("cifar10", "CIFAR-10-Binary.tar"),
    ):
        path = tmp_path / name / folder / name
        path.parent.mkdir(parents=True)
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w"):
            pass
        with pytest.raises(
            DataError, match="unpacked .tar -xf .*data_batch_1.bin"
        ) as e:
            load_small("cifar10", tmp_path / name)
        assert str(path) in str(e.value)
