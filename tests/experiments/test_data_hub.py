"""The Hugging Face hub, by local files of the same schema, and the three ways."""

import errno
import io
import os
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image
from small_data_sets import (
    NAMES,
    hub_columns,
    png,
    random_splits,
    write_parquet,
    write_repository,
)

from heavytail_optax.experiments.errors import DataError


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def assert_read(dataset, train, test):
    np.testing.assert_array_equal(dataset.train.images, train.images[:20])
    np.testing.assert_array_equal(dataset.true_train_labels, train.labels[:20])
    np.testing.assert_array_equal(dataset.test.images, test.images)
    np.testing.assert_array_equal(dataset.test.labels, test.labels)


def test_a_repository_of_the_hub_is_read(catalogue, load_small, tmp_path, name):
    """Of its configurations and splits, only those that are wanted are downloaded."""
    data = catalogue[name]
    train, test = random_splits(data)
    write_repository(tmp_path / "hub", data, train, test)
    dataset = load_small(name)
    assert_read(dataset, train, test)
    assert dataset.source == f"Hugging Face hub, {data.hub}"
    names = ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")
    assert dataset.files == names
    downloaded = (tmp_path / "snapshot").rglob("*.parquet")
    assert {path.name for path in downloaded} == set(names)


@pytest.mark.parametrize("folder", [".", "{config}"])
def test_parquet_files_of_the_hub_are_read(
    catalogue, load_small, tmp_path, name, folder
):
    data, data_dir = catalogue[name], tmp_path / "data"
    train, test = random_splits(data)
    place = data_dir / folder.format(config=data.hub_folder)
    write_parquet(place, "train", hub_columns(data, train))
    write_parquet(place, "test", hub_columns(data, test))
    dataset = load_small(name, data_dir)
    assert_read(dataset, train, test)
    assert dataset.source == "data directory"
    names = ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")
    assert dataset.files == names


def test_parquet_files_in_pieces_are_read_in_order(catalogue, load_small, tmp_path):
    data = catalogue["cifar10"]
    train, test = random_splits(data)
    columns = hub_columns(data, train)
    for i, part in enumerate((slice(0, 7), slice(7, None))):
        some = {name: column[part] for name, column in columns.items()}
        path = write_parquet(tmp_path, "train", some)
        path.rename(tmp_path / f"train-0000{i}-of-00002.parquet")
    write_parquet(tmp_path, "test", hub_columns(data, test))
    assert_read(load_small("cifar10", tmp_path), train, test)


def test_a_bad_row_is_told_with_the_file_that_it_is_in(catalogue, load_small, tmp_path):
    data = catalogue["cifar10"]
    train, test = random_splits(data)
    columns = hub_columns(data, train)
    columns["img"][9] = image_bytes(COLOUR, "JPEG")
    for i, part in enumerate((slice(0, 7), slice(7, None))):
        some = {name: column[part] for name, column in columns.items()}
        path = write_parquet(tmp_path, "train", some)
        path = path.rename(tmp_path / f"train-0000{i}-of-00002.parquet")
    write_parquet(tmp_path, "test", hub_columns(data, test))
    with pytest.raises(DataError, match="row 2: .*JPEG") as error:
        load_small("cifar10", tmp_path)
    assert str(error.value).startswith(str(path))
    (tmp_path / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="2 such files.* 0 is missing"):
        load_small("cifar10", tmp_path)


def test_parquet_files_in_upper_case_are_read(catalogue, load_small, tmp_path):
    data = catalogue["fashion-mnist"]
    train, test = random_splits(data)
    folder = tmp_path / data.hub_folder.upper()
    for split, arrays in (("train", train), ("test", test)):
        path = write_parquet(folder, split, hub_columns(data, arrays))
        path.rename(path.with_name(path.name.upper()))
    assert_read(load_small("fashion-mnist", tmp_path), train, test)


@pytest.fixture
def columns_of_cifar10(catalogue, tmp_path):
    """Columns of the training images; the test images are in place."""
    data = catalogue["cifar10"]
    train, test = random_splits(data)
    write_parquet(tmp_path, "test", hub_columns(data, test))
    return hub_columns(data, train)


def image_bytes(image, format):
    buffer = io.BytesIO()
    image.save(buffer, format)
    return {"bytes": buffer.getvalue(), "path": None}


GREY = np.zeros((32, 32, 1), np.uint8)
SMALL = np.zeros((28, 28, 3), np.uint8)
COLOUR = Image.new("RGB", (32, 32))


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("img", {"bytes": png(GREY), "path": None}, "Got 32x32 of mode L instead"),
        ("img", {"bytes": png(SMALL), "path": None}, "Got 28x28 of mode RGB instead"),
        ("img", {"bytes": b"", "path": None}, "must be a PNG. Got empty"),
        ("img", {"bytes": b"no image", "path": None}, "must be a PNG. Got .*no image"),
        ("img", {"bytes": bytes(9), "path": None}, "must be a PNG. Got .* 0000"),
        (
            "img",
            {"bytes": png(np.array(COLOUR))[:50], "path": None},
            "PNG. Got .* decoded",
        ),
        ("img", image_bytes(COLOUR, "JPEG"), "must be a PNG. Got a JPEG"),
        ("img", image_bytes(COLOUR, "WEBP"), "must be a PNG. Got a WebP"),
        ("img", image_bytes(COLOUR, "GIF"), "must be a PNG. Got a GIF"),
        ("img", image_bytes(COLOUR, "TIFF"), "must be a PNG. Got a TIFF"),
        ("img", image_bytes(COLOUR, "PNG") | {"bytes": None}, "the bytes of a PNG"),
        ("img", image_bytes(COLOUR, "BMP"), "must be a PNG. Got a BMP"),
        ("img", image_bytes(COLOUR.convert("RGBA"), "PNG"), "of mode RGBA instead"),
        ("img", None, "the bytes of a PNG"),
        ("label", None, "must be an integer. Got None"),
        ("label", 10, "0 images must have the label 10. Got 1"),
        ("label", -1, "0 images must have the label -1. Got 1"),
    ],
)
def test_a_bad_cell_is_told_with_its_row(
    columns_of_cifar10, load_small, tmp_path, column, cell, message
):
    columns_of_cifar10[column][3] = cell
    path = write_parquet(tmp_path, "train", columns_of_cifar10)
    with pytest.raises(DataError, match=message) as error:
        load_small("cifar10", tmp_path)
    assert str(path) in str(error.value) and " at 0x" not in str(error.value)
    assert ": row 3: " in str(error.value) or column == "label"


def test_a_path_in_the_image_column_is_not_followed(
    columns_of_cifar10, load_small, tmp_path
):
    secret = tmp_path / "secret.png"
    COLOUR.save(secret)
    columns_of_cifar10["img"][0] = {"bytes": None, "path": str(secret)}
    write_parquet(tmp_path, "train", columns_of_cifar10)
    with pytest.raises(DataError, match="row 0: the image must be stored as the bytes"):
        load_small("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda columns: columns.pop("img"), "the columns img and label. Got label, "),
        (lambda columns: columns.pop("label"), "img and label. Got img, coarse_label"),
        (
            lambda columns: columns.update(img=["text"] * 20),
            "row 0: the image must be stored as the bytes of a PNG",
        ),
        (
            lambda columns: columns.update(label=["0"] * 20),
            "row 0: the label must be an integer. Got '0'",
        ),
        (
            lambda columns: columns.update(label=[0.5] * 20),
            "row 0: the label must be an integer. Got 0.5",
        ),
        (
            lambda columns: [column.pop() for column in columns.values()],
            "must have 20 rows. Got 19",
        ),
        (
            lambda columns: [column.append(column[0]) for column in columns.values()],
            "must have 20 rows. Got 21",
        ),
        (
            lambda columns: [column.clear() for column in columns.values()],
            "must have 20 rows. Got 0",
        ),
    ],
)
def test_a_foreign_parquet_file_is_named(
    columns_of_cifar10, load_small, tmp_path, change, message
):
    change(columns_of_cifar10)
    path = write_parquet(tmp_path, "train", columns_of_cifar10)
    with pytest.raises(DataError, match=message) as error:
        load_small("cifar10", tmp_path)
    assert str(path) in str(error.value)


def test_a_damaged_parquet_file_is_named(columns_of_cifar10, load_small, tmp_path):
    path = write_parquet(tmp_path, "train", columns_of_cifar10)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in (0, 1, 4, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=path.name):
            load_small("cifar10", tmp_path)
    for noise in (b"PAR1", b"PAR1" + rng.bytes(1000) + b"PAR1"):
        path.write_bytes(noise)
        with pytest.raises(DataError, match=path.name):
            load_small("cifar10", tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=path.name):
        load_small("cifar10", tmp_path)


def test_a_parquet_file_that_the_system_cannot_read_is_not_damaged(
    columns_of_cifar10, load_small, tmp_path, monkeypatch
):
    path = write_parquet(tmp_path, "train", columns_of_cifar10)

    def fail(self):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self))

    monkeypatch.setattr(pathlib.Path, "read_bytes", fail)
    with pytest.raises(DataError, match=rf"{path}: cannot be read \(Stale file handle"):
        load_small("cifar10", tmp_path)


def test_changed_bytes_of_a_parquet_file_never_crash(
    columns_of_cifar10, load_small, tmp_path
):
    path = write_parquet(tmp_path, "train", columns_of_cifar10)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(content), size=40):
        changed = bytearray(content)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        try:
            assert load_small("cifar10", tmp_path).train.images.shape == (20, 32, 32, 3)
        except DataError as error:
            assert path.name in str(error) and " at 0x" not in str(error)


def test_one_split_without_the_other(catalogue, load_small, tmp_path):
    data = catalogue["cifar10"]
    write_parquet(tmp_path, "train", hub_columns(data, random_splits(data)[0]))
    with pytest.raises(DataError, match=r"beside it, test\*.parquet is missing"):
        load_small("cifar10", tmp_path)


def test_without_a_source_all_three_ways_are_named(catalogue, load_small, name):
    data = catalogue[name]
    with pytest.raises(DataError) as error:
        load_small(name)
    opening, first, second, third = str(error.value).split("\n")
    assert data.title in opening
    for file in (*data.train.files, *data.test.files):
        assert file in first
    if name == "fashion-mnist":
        assert "apt install dataset-fashion-mnist" in second
        assert data.package_folder in second
    else:
        assert "none has it" in second
    assert f"{data.hub} could not be loaded: " in third


def test_without_the_package_of_the_hub(catalogue, load_small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"3\. .* huggingface_hub is not .*\[hub\]"):
        load_small("svhn")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 PAR1")
    (tmp_path / "test.parquet").write_bytes(b"PAR1 PAR1")
    with pytest.raises(DataError, match=r"pyarrow.* is not installed\. .*\[hub\]"):
        load_small("svhn", tmp_path)


def test_a_foreign_repository_is_named(catalogue, load_small, tmp_path):
    data = catalogue["svhn"]
    train, test = random_splits(data)
    train.labels[:] = 0
    write_repository(tmp_path / "hub", data, train, test)
    with pytest.raises(
        DataError, match="train-.*parquet: 2 images must have the label 0"
    ):
        load_small("svhn")
