"""Damaged and foreign files: an error that names them, never a crash."""

import gzip
import io
import re
import struct

import numpy as np
import pytest
from small_data_sets import NAMES, mat_file, with_checksums, write_random_files

from heavytail_optax.experiments.data.data_files import find_files
from heavytail_optax.experiments.data.published_files import read_published_files
from heavytail_optax.experiments.errors import DataError


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def read(data, folder):
    """Both splits, by the readers alone."""
    paths = find_files(folder, (), data.train.files, data.test.files)
    assert paths is not None
    train, test = paths
    return (
        read_published_files(data, data.train, train),
        read_published_files(data, data.test, test),
    )


def changed_and_read(data, folder, name, content):
    """What the readers say of a file that is replaced: an error, or arrays."""
    path = folder / name
    original = path.read_bytes()
    path.write_bytes(content)
    try:
        return read(data, folder)
    except DataError as error:
        assert str(path) in str(error) and " at 0x" not in str(error)
        return error
    finally:
        path.write_bytes(original)


def flipped(content, place):
    """The content with one byte changed."""
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_or_empty_file_is_named(catalogue, tmp_path, name, compressed):
    data = catalogue[name]
    write_random_files(data, tmp_path, compressed=compressed)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        lengths = {0, 1, 3, 7, 8, 15, 127, 128, 136, len(content) - 1}
        lengths |= set(range(0, len(content), len(content) // 7 + 1))
        for length in sorted(lengths & set(range(len(content)))):
            truncated = content[:length]
            outcome = changed_and_read(data, tmp_path, path.name, truncated)
            assert isinstance(outcome, DataError), (path.name, length)


def test_random_bytes_are_refused(catalogue, load_small, tmp_path, name):
    """Also where each content of the right length is a file: its labels are wrong."""
    data = catalogue[name]
    _, _, contents = write_random_files(data, tmp_path)
    rng = np.random.default_rng(0)
    for file, content in contents.items():
        (tmp_path / file).write_bytes(rng.bytes(len(content)))
        with pytest.raises(DataError, match=re.escape(str(tmp_path / file))):
            load_small(name, tmp_path)
        (tmp_path / file).write_bytes(content)


def test_each_changed_byte_is_found_where_the_checksum_is_known(
    catalogue, tmp_path, name
):
    _, _, contents = write_random_files(catalogue[name], tmp_path)
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
    _, _, contents = write_random_files(data, tmp_path)
    for file, content in contents.items():
        for place in range(16 if "images" in file else 8):
            changed = flipped(content, place)
            outcome = changed_and_read(data, tmp_path, file, changed)
            assert isinstance(outcome, DataError), (file, place)


def test_changed_bytes_of_a_compressed_file_are_found(catalogue, tmp_path):
    data = catalogue["fashion-mnist"]
    train, test, _ = write_random_files(data, tmp_path, compressed=True)
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
    _, _, contents = write_random_files(data, tmp_path, compressed=True)
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
    _, _, contents = write_random_files(data, tmp_path)
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
        ({"X": IMAGES}, ": y must be .* Got none"),
        ({"y": LABELS}, ": X must be .* Got none"),
        ({"X": IMAGES.transpose(3, 0, 1, 2), "y": LABELS}, r"Got .* shape \(20, 32"),
        ({"X": IMAGES[..., :19], "y": LABELS}, r"Got .* shape \(32, 32, 3, 19\)"),
        ({"X": IMAGES, "y": LABELS.T}, r"Got .* shape \(1, 20\)"),
        ({"X": IMAGES, "y": LABELS - 1}, "from 1 to 10. Got 0 to 9"),
        ({"X": IMAGES, "y": LABELS + 1}, "from 1 to 10. Got 2 to 11"),
        ({"X": IMAGES.astype(float), "y": LABELS}, "uint8 .* Got float64"),
        ({"X": np.array([[1, "a"]], object), "y": LABELS}, "uint8 .* Got object"),
        ({"X": {"field": 1}, "y": LABELS}, "uint8 .* Got "),
        ({"X": "text", "y": LABELS}, "uint8 .* Got <U4"),
    ],
)
def test_a_matlab_file_of_something_else_is_named(catalogue, tmp_path, arrays, message):
    data = catalogue["svhn"]
    write_random_files(data, tmp_path)
    content = mat_file(**arrays)
    outcome = changed_and_read(data, tmp_path, "train_32x32.mat", content)
    assert isinstance(outcome, DataError)
    assert re.search(message, str(outcome))


def test_another_file_of_the_same_format_is_named(catalogue, tmp_path):
    data = catalogue["fashion-mnist"]
    write_random_files(data, tmp_path)
    file, pixels = "train-images-idx3-ubyte", 20 * 28 * 28
    header = struct.pack(">IIII", 0x803, 10, 56, 28)
    outcome = changed_and_read(data, tmp_path, file, header + bytes(pixels))
    assert "00000803 00000014 0000001c 0000001c" in str(outcome)
    assert "Got 00000803 0000000a 00000038 0000001c" in str(outcome)
    header = struct.pack(">IIII", 0xD03, 20, 28, 28)
    outcome = changed_and_read(data, tmp_path, file, header + bytes(pixels))
    assert "Got 00000d03 00000014 0000001c 0000001c" in str(outcome)
