"""What often lies in place of a data file: told in words, or read if it is the file."""

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from small_data_sets import (
    NAMES,
    hub_columns,
    mat_file,
    png,
    random_splits,
    write_files,
    write_parquet,
    write_random_files,
)

from heavytail_optax.experiments.errors import DataError

FASHION = "fashion-mnist"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 7\n"
ANNEX = b"/annex/objects/MD5E-s182040794--e26dedcc434d2e4c54c9b2d4a06d8373.mat\n"


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data", content)
    return buffer.getvalue()


def tarred(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("data")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


STAND_INS = {
    "Git LFS": (lambda _: LFS, "`git lfs pull`"),
    "git-annex": (lambda _: ANNEX, "`git annex get"),
    "git-annex, a link as text": (
        lambda _: b"../.git/annex/objects/Xx/0q/MD5E-s7--f00d/MD5E-s7--f00d",
        "`git annex get",
    ),
    "empty": (lambda _: b"", "empty"),
    "nothing, compressed": (lambda _: gzip.compress(b""), "empty"),
    "web page": (
        lambda _: b"\n<!DOCTYPE HTML><title>404</title>" + bytes(999),
        "web page",
    ),
    "web page, marked": (lambda _: b"\xef\xbb\xbf<html lang=en>", "web page"),
    "XML": (lambda _: b"<?xml version='1.0'?><Error>AccessDenied</Error>", "web page"),
    "web page, compressed": (lambda _: gzip.compress(b"<html></html>"), "web page"),
    "text": (lambda _: b"404: Not Found\n", "404: Not Found"),
    "ZIP": (zipped, "ZIP"),
    "tar": (tarred, "tar archive"),
    "tar, compressed": (lambda content: gzip.compress(tarred(content)), "tar archive"),
    "bzip2": (bz2.compress, "bzip2"),
    "xz": (lzma.compress, "xz"),
    "pickle": (pickle.dumps, "pickle"),
    "PNG": (lambda _: png(np.zeros((9, 9, 3), np.uint8)), "PNG"),
    "NumPy": (lambda _: b"\x93NUMPY\x01\x00" + bytes(999), "NumPy"),
    "HDF5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(999), "HDF5"),
    "Parquet": (lambda _: b"PAR1" + bytes(999) + b"PAR1", "Parquet"),
    "half of a compressed file": (
        lambda content: gzip.compress(content)[: len(content) // 9],
        "cut short",
    ),
    "half": (lambda content: content[: len(content) // 2], ""),
}


@pytest.mark.parametrize("kind", STAND_INS)
def test_what_lies_in_place_of_a_file_is_told(
    catalogue, load_small, tmp_path, name, kind
):
    make, fact = STAND_INS[kind]
    _, _, contents = write_random_files(catalogue[name], tmp_path)
    for file in (next(iter(contents)), list(contents)[-1]):
        path = tmp_path / file
        path.write_bytes(make(contents[file]))
        with pytest.raises(DataError) as error:
            load_small(name, tmp_path)
        assert str(error.value).startswith(f"{path}: ") and fact in str(error.value)
        assert " at 0x" not in str(error.value)
        path.write_bytes(contents[file])
    load_small(name, tmp_path)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (LFS, "`git lfs pull`"),
        (ANNEX, "`git annex get"),
        (b"", "empty"),
        (b"<html>", "web page"),
        (gzip.compress(b"PAR1"), "gzip"),
        (zipped(b"PAR1"), "ZIP"),
        (b"no\x00thing known", "Parquet"),
    ],
    ids=["LFS", "annex", "empty", "web page", "gzip", "ZIP", "unknown"],
)
def test_what_lies_in_place_of_a_parquet_file_is_told(
    catalogue, load_small, tmp_path, content, fact
):
    data = catalogue["cifar10"]
    train, test = random_splits(data)
    write_parquet(tmp_path, "train", hub_columns(data, train))
    path = write_parquet(tmp_path, "test", hub_columns(data, test))
    whole = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        load_small("cifar10", tmp_path)
    assert str(error.value).startswith(f"{path}: ") and fact in str(error.value)
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="cut short"):
        load_small("cifar10", tmp_path)


def test_another_version_of_matlab_is_told(catalogue, load_small, tmp_path):
    write_random_files(catalogue["svhn"], tmp_path)
    path = tmp_path / "train_32x32.mat"
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512)
    path.write_bytes(header + b"\x89HDF\r\n\x1a\n" + bytes(999))
    with pytest.raises(DataError, match="MATLAB file of version 7.3"):
        load_small("svhn", tmp_path)
    # One of CIFAR's files is no MATLAB file, even if that can be read.
    write_random_files(catalogue["cifar100"], tmp_path)
    (tmp_path / "train.bin").write_bytes(mat_file(X=np.zeros(9)))
    with pytest.raises(DataError, match=r"train.bin: is a MATLAB file"):
        load_small("cifar100", tmp_path)


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", ["", ".gz", ".GZ"])
def test_compression_is_told_by_the_content(
    catalogue, load_small, tmp_path, name, layers, suffix
):
    train, test, contents = write_random_files(catalogue[name], tmp_path / "original")
    for file, content in contents.items():
        for _ in range(layers):
            content = gzip.compress(content)
        write_files(tmp_path / "data", {file + suffix: content})
    dataset = load_small(name, tmp_path / "data")
    np.testing.assert_array_equal(dataset.train.images, train.images[:20])
    np.testing.assert_array_equal(dataset.test.images, test.images)
    np.testing.assert_array_equal(dataset.test.labels, test.labels)


def test_compression_without_end_is_not_followed(catalogue, load_small, tmp_path):
    _, _, contents = write_random_files(catalogue[FASHION], tmp_path)
    path = tmp_path / next(iter(contents))
    content = contents[path.name]
    for _ in range(9):
        content = gzip.compress(content)
    path.write_bytes(content)
    with pytest.raises(DataError, match="compressed by gzip"):
        load_small(FASHION, tmp_path)


SPELLINGS = {
    "dots": lambda file: file.replace("-idx", ".idx"),
    "dots, compressed": lambda file: file.replace("-idx", ".idx") + ".gz",
    "upper case": str.upper,
    "title": lambda file: file.title() + ".Gz",
    "a folder of its name": lambda file: f"{file}/{file}",
    "a folder of its other name": lambda file: (
        f"{file}.gz/{file.replace('-idx', '.idx')}"
    ),
}


@pytest.mark.parametrize("folder", ["", "cased"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_of_a_name_are_read(
    catalogue, load_small, tmp_path, name, spelling, folder
):
    data, place = catalogue[name], tmp_path / "data"
    if folder:  # one of the usual ones, in other case
        place /= data.folders[-1].swapcase()
    train, test, contents = write_random_files(data, tmp_path / "original")
    for file, content in contents.items():
        path = place / SPELLINGS[spelling](file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    dataset = load_small(name, tmp_path / "data")
    np.testing.assert_array_equal(dataset.train.images, train.images[:20])
    np.testing.assert_array_equal(dataset.test.labels, test.labels)
    assert len(dataset.files) == len(contents)


def test_of_two_spellings_the_published_one_is_read(catalogue, load_small, tmp_path):
    train, _, contents = write_random_files(catalogue[FASHION], tmp_path)
    for file in contents:
        (tmp_path / f"{file}.gz").write_bytes(LFS)
        (tmp_path / file.upper()).write_bytes(LFS)
    dataset = load_small(FASHION, tmp_path)
    np.testing.assert_array_equal(dataset.train.images, train.images[:20])
    assert dataset.files == tuple(contents)


@pytest.mark.parametrize("suffix", [".part", ".crdownload", ".gz.part", ".incomplete"])
def test_an_unfinished_download_is_told(catalogue, load_small, tmp_path, name, suffix):
    """Also where another source has the images, as they are meant to be from here."""
    _, _, contents = write_random_files(catalogue[name], tmp_path / "whole")
    data_dir = tmp_path / "data"
    *rest, last = contents
    write_files(data_dir, {last + suffix: b"half"})
    with pytest.raises(DataError, match="unfinished download") as error:
        load_small(name, data_dir)
    assert str(data_dir / (last + suffix)) in str(error.value)
    write_files(data_dir, {file: contents[file] for file in rest})
    with pytest.raises(DataError, match="unfinished download") as error:
        load_small(name, data_dir)
    assert f"{last} is missing" in str(error.value) and last + suffix in str(
        error.value
    )


@pytest.mark.parametrize(
    "file",
    ["cifar-10-binary.tar.gz.part", "train-00000-of-00001.parquet.crdownload"],
)
def test_an_unfinished_archive_is_told(catalogue, load_small, tmp_path, file):
    (tmp_path / file).write_bytes(b"half")
    with pytest.raises(DataError, match="unfinished download") as error:
        load_small("cifar10", tmp_path)
    assert file in str(error.value)


def test_an_archive_that_is_none_is_told(catalogue, load_small, tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    for content, fact in (
        (LFS, "`git lfs pull`"),
        (b"", "empty"),
        (b"<html>", "web page"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=fact) as error:
            load_small("cifar10", tmp_path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("target", "fact"),
    [(".git/annex/objects/Xx/0q/MD5E", "`git annex get"), ("nowhere/data", "nowhere")],
)
def test_a_link_to_nowhere_is_told(catalogue, load_small, tmp_path, name, target, fact):
    _, _, contents = write_random_files(catalogue[name], tmp_path)
    path = tmp_path / list(contents)[-1]
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(DataError, match=fact) as error:
        load_small(name, tmp_path)
    assert str(path) in str(error.value)


def test_a_folder_without_the_files_says_what_it_has(
    catalogue, load_small, tmp_path, name
):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    for number in range(20):
        (data_dir / f"image-{number:02}.csv").touch()
    with pytest.raises(DataError, match="image-00.csv.* 12 more") as error:
        load_small(name, data_dir)
    assert str(data_dir) in str(error.value)


@pytest.mark.parametrize("inner", ["", "usual"])
def test_files_in_a_folder_further_down_are_pointed_to(
    catalogue, load_small, tmp_path, name, inner
):
    data, data_dir = catalogue[name], tmp_path / "data"
    place = data_dir / "unpacked here" / (data.folders[-1] if inner else "")
    write_random_files(data, place)
    with pytest.raises(DataError) as error:
        load_small(name, data_dir)
    assert f"in {place}: give that folder to --data-dir" in str(error.value)
    load_small(name, place)
