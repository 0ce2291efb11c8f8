"""Files of FashionMNIST, SVHN and CIFAR: what is read, and what is refused."""

import dataclasses
import gzip
import io
import pathlib
import pickle
import re
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_data_sets import (
    mat_file,
    original_files,
    random_splits,
    small_catalogue,
    with_checksums,
    write_files,
)

from heavytail_optax.experiments.data import (
    DataError,
    describe_dataset,
    load_dataset,
)
from heavytail_optax.experiments.data import _loading as loading
from heavytail_optax.experiments.data._originals import (
    find_original_files,
    read_original_files,
)

NAMES = ("fashion-mnist", "svhn", "cifar10", "cifar100")
SUBFOLDERS = {
    "fashion-mnist": "FashionMNIST/raw",
    "svhn": "svhn",
    "cifar10": "cifar-10-batches-bin",
    "cifar100": "cifar-100-binary",
}


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    """The small data sets in place of the published ones, until the test is over."""
    small = small_catalogue(tmp_path)
    monkeypatch.setattr(loading, "CATALOGUE", small)
    return small


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def settings_for(tiny):
    def settings_for(name, **changes):
        size = 28 if name == "fashion-mnist" else 32
        sizes = {"clean_examples": 12, "corrupted_examples": 8, "image_size": size}
        changes = {"data": name, "batch_size": 5, **sizes, **changes}
        return dataclasses.replace(tiny, **changes)

    return settings_for


def written(data, folder, **options):
    """Random splits, and their files, which are written to the folder."""
    train, test = random_splits(data)
    contents = original_files(data, train, test)
    write_files(folder, contents, **options)
    return train, test, contents


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("is_direct", [False, True])
def test_files_are_read_as_they_were_written(
    catalogue, settings_for, tmp_path, name, compressed, is_direct
):
    data_dir = tmp_path / "data"
    folder = data_dir if is_direct else data_dir / SUBFOLDERS[name]
    train, test, contents = written(catalogue[name], folder, compressed=compressed)
    dataset = load_dataset(settings_for(name), jax.random.key(0), data_dir)
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


def test_the_file_of_test_images_may_be_trained_on(catalogue, settings_for, tmp_path):
    train, test, _ = written(catalogue["svhn"], tmp_path)
    settings = settings_for(
        "svhn",
        swap_train_and_test=True,
        clean_examples=9,
        corrupted_examples=0,
        test_examples=15,
    )
    dataset = load_dataset(settings, jax.random.key(0), tmp_path)
    np.testing.assert_array_equal(dataset.train.images, test.images[:9])
    np.testing.assert_array_equal(dataset.train.labels, test.labels[:9])
    np.testing.assert_array_equal(dataset.test.images, train.images[:15])
    np.testing.assert_array_equal(dataset.test.labels, train.labels[:15])


def test_images_get_a_black_border(catalogue, settings_for, tmp_path):
    train, _, _ = written(catalogue["fashion-mnist"], tmp_path)
    settings = settings_for("fashion-mnist", image_size=33)
    images = load_dataset(settings, jax.random.key(0), tmp_path).train.images
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
    catalogue, settings_for, changes, message
):
    with pytest.raises(DataError, match=message):
        load_dataset(settings_for("svhn", **changes), jax.random.key(0), None)


def test_the_package_of_the_system_is_found(catalogue, settings_for, tmp_path):
    data = catalogue["fashion-mnist"]
    train, _, _ = written(data, pathlib.Path(data.package.folder), compressed=True)
    settings, key = settings_for("fashion-mnist"), jax.random.key(0)
    dataset = load_dataset(settings, key)
    np.testing.assert_array_equal(dataset.train.images, train.images)
    assert dataset.source == "system package dataset-fashion-mnist"
    # A data directory without files of the data set is passed over; one with wins.
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    assert load_dataset(settings, key, data_dir).source == dataset.source
    write_files(data_dir, original_files(data, *random_splits(data, seed=1)))
    assert load_dataset(settings, key, data_dir).source == "data directory"


def read(data, folder):
    """Both splits, by the readers alone."""
    paths = find_original_files(data, folder, (".",))
    assert paths is not None
    return (
        read_original_files(data, data.train, paths.train),
        read_original_files(data, data.test, paths.test),
    )


def changed_and_read(data, folder, name, content):
    """What the readers say of a file that is replaced: an error, or arrays."""
    path = folder / name
    original = path.read_bytes()
    path.write_bytes(content)
    try:
        return read(data, folder)
    except DataError as error:
        assert str(path) in str(error)
        return error
    finally:
        path.write_bytes(original)


def flipped(content, place):
    """The content with one byte changed."""
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_or_empty_file_is_named(catalogue, tmp_path, name, compressed):
    data = catalogue[name]
    written(data, tmp_path, compressed=compressed)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        lengths = {0, 1, 3, 7, 8, 15, 127, 128, 136, len(content) - 1}
        lengths |= set(range(0, len(content), len(content) // 7 + 1))
        for length in sorted(lengths & set(range(len(content)))):
            truncated = content[:length]
            outcome = changed_and_read(data, tmp_path, path.name, truncated)
            assert isinstance(outcome, DataError), (path.name, length)


def test_random_bytes_are_refused(catalogue, settings_for, tmp_path, name):
    """Also where each content of the right length is a file: its labels are wrong."""
    data = catalogue[name]
    _, _, contents = written(data, tmp_path)
    rng = np.random.default_rng(0)
    for file, content in contents.items():
        (tmp_path / file).write_bytes(rng.bytes(len(content)))
        with pytest.raises(DataError, match=re.escape(str(tmp_path / file))):
            load_dataset(settings_for(name), jax.random.key(0), tmp_path)
        (tmp_path / file).write_bytes(content)


def test_each_changed_byte_is_found_where_the_checksum_is_known(
    catalogue, tmp_path, name
):
    _, _, contents = written(catalogue[name], tmp_path)
    data = with_checksums(catalogue[name], tmp_path)
    read(data, tmp_path)
    rng = np.random.default_rng(0)
    for file, content in contents.items():
        for place in [0, 3, 7, *rng.integers(len(content), size=10)]:
            changed = flipped(content, place)
            outcome = changed_and_read(data, tmp_path, file, changed)
            assert isinstance(outcome, DataError), (file, place)


def test_each_changed_byte_of_a_header_is_found(catalogue, tmp_path):
    data = catalogue["fashion-mnist"]
    _, _, contents = written(data, tmp_path)
    for file, content in contents.items():
        for place in range(16 if "images" in file else 8):
            changed = flipped(content, place)
            outcome = changed_and_read(data, tmp_path, file, changed)
            assert isinstance(outcome, DataError), (file, place)


def test_changed_bytes_of_a_compressed_file_are_found(catalogue, tmp_path):
    data = catalogue["fashion-mnist"]
    train, test, _ = written(data, tmp_path, compressed=True)
    rng = np.random.default_rng(0)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        # The last eight bytes are the checksum and the length.
        places = [*range(12), *rng.integers(len(content), size=20)]
        for place in [*places, *range(len(content) - 8, len(content))]:
            changed = flipped(content, place)
            outcome = changed_and_read(data, tmp_path, path.name, changed)
            # The time in the header, say, may be any.
            if not isinstance(outcome, DataError):
                np.testing.assert_array_equal(outcome[0].images, train.images)
                np.testing.assert_array_equal(outcome[0].labels, train.labels)
                np.testing.assert_array_equal(outcome[1].images, test.images)
                np.testing.assert_array_equal(outcome[1].labels, test.labels)


def test_a_compressed_bomb_is_not_unpacked(catalogue, tmp_path):
    data = catalogue["fashion-mnist"]
    _, _, contents = written(data, tmp_path, compressed=True)
    file = next(iter(contents))
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as bomb:
        bomb.write(contents[file])
        for _ in range(50):
            bomb.write(bytes(1 << 20))
    outcome = changed_and_read(data, tmp_path, f"{file}.gz", buffer.getvalue())
    assert "Got more instead" in str(outcome)


def test_changed_bytes_of_a_matlab_file_never_crash(catalogue, tmp_path):
    data = catalogue["svhn"]
    _, _, contents = written(data, tmp_path)
    rng = np.random.default_rng(0)
    content = contents["train_32x32.mat"]
    for place in [*range(0, 200, 3), *rng.integers(len(content), size=60)]:
        changed = flipped(content, place)
        outcome = changed_and_read(data, tmp_path, "train_32x32.mat", changed)
        if not isinstance(outcome, DataError):
            assert outcome[0].images.shape == (20, 32, 32, 3)
            assert outcome[0].labels.shape == (20,)


IMAGES = np.zeros((32, 32, 3, 20), np.uint8)
LABELS = np.arange(20, dtype=np.uint8)[:, None] % 10 + 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": IMAGES}, "There is no y in the file"),
        ({"y": LABELS}, "There is no X in the file"),
        ({"X": IMAGES.transpose(3, 0, 1, 2), "y": LABELS}, r"Got shape \(20, 32"),
        ({"X": IMAGES[..., :19], "y": LABELS}, r"Got shape \(32, 32, 3, 19\)"),
        ({"X": IMAGES, "y": LABELS.T}, r"Got shape \(1, 20\)"),
        ({"X": IMAGES, "y": LABELS - 1}, "from 1 to 10. Got 0 to 9"),
        ({"X": IMAGES, "y": LABELS + 1}, "from 1 to 10. Got 2 to 11"),
        ({"X": IMAGES.astype(float), "y": LABELS}, "dtype uint8. Got float64"),
        ({"X": np.array([[1, "a"]], object), "y": LABELS}, "dtype uint8. Got object"),
        ({"X": {"field": 1}, "y": LABELS}, "dtype uint8. Got "),
        ({"X": "text", "y": LABELS}, "dtype uint8. Got <U4"),
    ],
)
def test_a_matlab_file_of_something_else_is_named(catalogue, tmp_path, arrays, message):
    data = catalogue["svhn"]
    written(data, tmp_path)
    content = mat_file(**arrays)
    outcome = changed_and_read(data, tmp_path, "train_32x32.mat", content)
    assert isinstance(outcome, DataError)
    assert re.search(message, str(outcome))


def test_another_file_of_the_same_format_is_named(catalogue, tmp_path):
    data = catalogue["fashion-mnist"]
    written(data, tmp_path)
    file, pixels = "train-images-idx3-ubyte", 20 * 28 * 28
    header = struct.pack(">IIII", 0x803, 10, 56, 28)
    outcome = changed_and_read(data, tmp_path, file, header + bytes(pixels))
    assert "must be of shape [20, 28, 28]. Got [10, 56, 28]" in str(outcome)
    header = struct.pack(">IIII", 0xD03, 20, 28, 28)
    outcome = changed_and_read(data, tmp_path, file, header + bytes(pixels))
    assert "must start with 00000803. Got 00000d03" in str(outcome)


def test_other_labels_are_told(catalogue, settings_for, tmp_path, name):
    """As many images, but not as many of each class: MNIST, say."""
    data = catalogue[name]
    train, test = random_splits(data)
    train.labels[0] = (train.labels[0] + 1) % data.num_classes
    write_files(tmp_path, original_files(data, train, test))
    with pytest.raises(DataError, match="so this is not the published data set") as e:
        load_dataset(settings_for(name), jax.random.key(0), tmp_path)
    assert str(tmp_path) in str(e.value)


def test_a_directory_in_place_of_a_file_is_named(
    catalogue, settings_for, tmp_path, name
):
    _, _, contents = written(catalogue[name], tmp_path)
    file = next(iter(contents))
    (tmp_path / file).unlink()
    (tmp_path / file).mkdir()
    with pytest.raises(DataError, match=f"{file}: cannot be read .Is a directory"):
        load_dataset(settings_for(name), jax.random.key(0), tmp_path)


def test_a_missing_file_is_named(catalogue, settings_for, tmp_path, name):
    _, _, contents = written(catalogue[name], tmp_path)
    *_, last = contents
    (tmp_path / last).unlink()
    with pytest.raises(DataError, match=f"beside it, {last} is missing"):
        load_dataset(settings_for(name), jax.random.key(0), tmp_path)


def test_a_data_directory_that_is_none(catalogue, settings_for, tmp_path):
    with pytest.raises(DataError, match="nowhere is no directory"):
        load_dataset(settings_for("svhn"), jax.random.key(0), tmp_path / "nowhere")


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
def test_pickles_are_refused(catalogue, settings_for, tmp_path, name, file, needed):
    sprung = tmp_path / "sprung"
    path = tmp_path / "data" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(DataError, match="pickled. It is never loaded") as error:
        load_dataset(settings_for(name), jax.random.key(0), tmp_path / "data")
    assert needed in str(error.value) and not sprung.exists()


def test_pickles_under_the_names_of_other_files_are_never_loaded(
    catalogue, settings_for, tmp_path, name
):
    sprung, data_dir = tmp_path / "sprung", tmp_path / "data"
    _, _, contents = written(catalogue[name], data_dir)
    for file in contents:
        (data_dir / file).write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(DataError):
        load_dataset(settings_for(name), jax.random.key(0), data_dir)
    assert not sprung.exists()
    pickle.loads((data_dir / file).read_bytes())
    assert sprung.exists()  # The trap would have worked.


def test_an_archive_is_to_be_unpacked(catalogue, settings_for, tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match="has to be unpacked, to give data_batch_1.bin"):
        load_dataset(settings_for("cifar10"), jax.random.key(0), tmp_path)
