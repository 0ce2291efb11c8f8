"""Damaged folders of images: an error that names what is wrong, before any work."""

import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from written_images import content_of, random_image, write_classes, write_folder

from heavytail_optax import cli
from heavytail_optax.experiments.data.decoded_images import MOST_PIXELS, read_images
from heavytail_optax.experiments.data.image_folders import find_images
from heavytail_optax.experiments.errors import DataError

RNG = np.random.default_rng(1)
IMAGE = random_image(RNG, (20, 20))
PNG = content_of(IMAGE)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def png_of_size(width, height):
    """The start of a PNG that says it has this size, and has no pixels."""
    content = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + content
    checksum = struct.pack(">I", zlib.crc32(chunk))
    return PNG[:8] + struct.pack(">I", len(content)) + chunk + checksum


def with_file(name, content):
    """Damage: one file more, or another content; what is named is the file."""

    def damage(root):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return damage


def without(name):
    """Damage: a folder is gone, and the folder `named` is in the message."""

    def damage(root, *, named=""):
        shutil.rmtree(root / name)
        return root / named

    return damage


def with_link(name, target):
    """Damage: a link to what is not there."""

    def damage(root):
        (root / name).symlink_to(target)
        return root / name

    return damage


def with_pipe(root):
    """Damage: reading it would wait for ever."""
    os.mkfifo(root / "train/ant/pipe.png")
    return root / "train/ant/pipe.png"


def with_empty(name):
    """Damage: an empty folder."""

    def damage(root):
        (root / name).mkdir(parents=True)
        return root / name

    return damage


def emptied(name):
    """Damage: a folder loses all that is in it."""

    def damage(root):
        shutil.rmtree(root / name)
        (root / name).mkdir()
        return root / name

    return damage


def with_folders_of_one_name(root):
    """Damage: one letter with an accent, and a letter and an accent."""
    write_classes(root / "train", classes=("\u00e9", "e\u0301"))
    return root / "train" / "\u00e9"


def only_in_test(root):
    """Damage: a class that cannot be learnt."""
    write_classes(root / "test", classes=("dog",))
    return root / "test/dog"


def one_class(root):
    """Damage: nothing to tell apart."""
    for split in ("train", "test"):
        for name in ("bee", "cow"):
            shutil.rmtree(root / split / name)
    return root


def only_files(root):
    """Damage: images, and no classes."""
    shutil.rmtree(root)
    return with_file("loose.png", PNG)(root)


def nothing(root):
    """Damage: an empty directory."""
    shutil.rmtree(root)
    root.mkdir()
    return root


FIRST = "train/ant/image 0.png"
DAMAGES = {
    # The folders.
    "no train": lambda root: without("train")(root, named="test"),
    "no test": without("test"),
    "nothing at all": nothing,
    "train empty": lambda root: emptied("train")(root).parent,
    "test empty": emptied("test"),
    "class empty": with_empty("train/dog"),
    "class empty in test": with_empty("test/dog"),
    "class emptied": emptied("train/bee"),
    "class of hidden files": lambda root: (
        with_file("train/dog/.hidden.png", PNG)(root).parent
    ),
    "class only in test": only_in_test,
    "class in other letters": lambda root: (root / "test/ant").rename(
        root / "test/Ant"
    ),
    "one class": one_class,
    "image beside classes": with_file("train/loose.png", PNG),
    "image beside classes of test": with_file("test/loose.JPG", PNG),
    "only files": only_files,
    "folder in a class": with_empty("train/ant/more"),
    "two folders of one name": with_folders_of_one_name,
    # What is no image by its name.
    "text file": with_file("train/ant/labels.csv", b"1,2,3"),
    "GIF": with_file("train/ant/image.gif", b"GIF89a"),
    "TIFF": with_file("train/ant/image.tiff", b"II*\0"),
    "no suffix": with_file("train/ant/image", PNG),
    "unfinished download": with_file("train/ant/image 9.png.part", PNG),
    "copy": with_file("test/ant/image 0.png~", PNG),
    "archive": with_file("train/ant/images.zip", b"PK\x03\x04"),
    "pipe": with_pipe,
    "broken link": with_link("train/ant/linked.png", "nowhere.png"),
    "broken link of annex": with_link(
        "train/ant/linked.png", "../.git/annex/objects/image.png"
    ),
    "link to itself": with_link("train/ant/circle.png", "circle.png"),
    # What is no image by its content.
    "empty file": with_file(FIRST, b""),
    "empty file in test": with_file("test/cow/image 1.JPG", b""),
    "cut after the first bytes": with_file(FIRST, PNG[:8]),
    "cut in the header": with_file(FIRST, PNG[:20]),
    "cut in the pixels": with_file(FIRST, PNG[: len(PNG) // 2]),
    "changed in the pixels": with_file(
        FIRST, PNG[:200] + bytes(len(PNG) - 220) + PNG[-20:]
    ),
    "JPEG cut": with_file("train/bee/image 1.JPG", content_of(IMAGE, ".jpg")[:300]),
    "WebP cut": with_file("train/bee/image 3.WebP", content_of(IMAGE, ".webp")[:60]),
    "BMP cut": with_file("train/bee/image 4.bmp", content_of(IMAGE, ".bmp")[:500]),
    "GIF inside": with_file(FIRST, b"GIF89a" + bytes(600)),
    "web page": with_file(FIRST, b"<!DOCTYPE html><title>404</title>"),
    "pointer of Git LFS": with_file(FIRST, POINTER),
    "pickle": with_file(FIRST, b"\x80\x04K\x01."),
    "random bytes": with_file(FIRST, np.random.default_rng(2).bytes(900)),
    # Too large to be true: 67 million pixels and one row, and more than Pillow opens.
    "many pixels": with_file(FIRST, png_of_size(2**13, 2**13 + 1)),
    "pixels to fill memory": with_file(FIRST, png_of_size(2**31 - 1, 2**31 - 1)),
    # Two sizes without --image-size.
    "two sizes": with_file(
        "train/ant/wide.png", content_of(random_image(RNG, (24, 20)))
    ),
    "two sizes in test": with_file(
        "test/ant/high.png", content_of(random_image(RNG, (20, 24)))
    ),
}


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "images", number=5)


def test_the_folder_itself_is_read(folder):
    """The negative control of the test below."""
    assert read_images(find_images(folder)).train.images.shape == (15, 20, 20, 3)
    assert 2**13 * (2**13 + 1) > MOST_PIXELS and len(DAMAGES) >= 40


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_named(folder, damage):
    named = damage(folder)
    with pytest.raises(DataError) as error:
        read_images(find_images(folder))
    assert str(named) in str(error.value) and " at 0x" not in str(error.value)
    # What to do is a sentence of its own.
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("number", [2, 10, 11, 15])
@pytest.mark.parametrize(
    "damage",
    [
        lambda root, name: with_file(f"train/ant/text {name}.csv", b"1")(root),
        lambda root, name: with_file(f"train/loose {name}.png", PNG)(root),
        lambda root, name: with_empty(f"train/class {name}")(root),
        lambda root, name: write_classes(root / "test", (f"new {name}",)) or root,
        lambda root, name: with_file(f"test/bee/no image {name}.png", b"1,2")(root),
        lambda root, name: with_file(f"test/bee/cut {name}.png", PNG[:200])(root),
    ],
    ids=["suffix", "beside", "empty", "only in test", "no image", "cut"],
)
def test_up_to_ten_wrong_files_are_named_at_once(folder, damage, number):
    for place in range(number):
        damage(folder, f"number {place:02d}")
    with pytest.raises(DataError) as error:
        read_images(find_images(folder))
    lines = str(error.value).splitlines()
    assert len(lines) == min(number, 11)
    named = {word for word in range(number) if f"number {word:02d}" in str(error.value)}
    assert len(named) == min(number, 10)
    assert (lines[-1] == "And others.") == (number > 10)


@pytest.mark.parametrize(("place", "what"), [("nowhere", "not there"), ("a", "a file")])
@pytest.mark.parametrize("data", ["folder", "svhn"])
def test_a_directory_that_is_none_is_called_that(
    data, place, what, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    assert cli.main(["train", data, "--data-dir", place]) == 2
    assert f"Got '{place}' instead, which is {what}." in capsys.readouterr().err


WRONG_OPTIONS = {
    "no directory": (["--data-dir"], "data_dir"),
    "directory not there": (["--data-dir", "nowhere"], "nowhere"),
    "directory is a file": (["--data-dir", "images/train/ant/image 0.png"], "data_dir"),
    "test share and test": (["--test-share", "0.2"], "test_share"),
    "test share of all": (["--test-share", "1"], "test_share"),
    "too many clean": (["--clean-examples", "16"], "clean_examples"),
    "too many corrupted": (["--corrupted-examples", "16"], "corrupted_examples"),
    "too many for testing": (["--test-examples", "7"], "test_examples"),
    "fewer than a batch": (["--batch-size", "16"], "batch_size"),
    "fewer than a large batch": (
        ["--large-batch-size", "16", "--methods", "shared"],
        "large_batch_size",
    ),
    "image size too small": (["--image-size", "15"], "image_size"),
    "too small for the network": (["--model", "vgg11"], "image_size"),
    "asked too small for it": (
        ["--image-size", "20", "--model", "vgg11"],
        "image_size",
    ),
}


@pytest.mark.parametrize(
    ("options", "named"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS.keys()
)
def test_a_wrong_option_is_named(folder, monkeypatch, capsys, options, named):
    monkeypatch.chdir(folder.parent)
    place = [] if "--data-dir" in options else ["--data-dir", "images"]
    options = [
        option for option in options if option != "--data-dir" or len(options) > 1
    ]
    if "--batch-size" not in options:
        options += ["--batch-size", "5"]
    command = ["train", "--data", "folder", *place, *options]
    assert cli.main([*command, "--directory", "run"]) == 2
    output = capsys.readouterr()
    assert named.replace("_", "-") in (output.out + output.err).replace("_", "-")
    assert "Traceback" not in output.err and not list(folder.parent.glob("run/*/*"))


def test_a_missing_option_is_a_mistake_in_the_options(folder, monkeypatch, capsys):
    """A folder without images for testing needs --test-share."""
    monkeypatch.chdir(folder.parent)
    shutil.rmtree(folder / "test")
    assert cli.main(["train", "--data", "folder", "--data-dir", "images"]) == 2
    assert "--test-share" in capsys.readouterr().err


def test_an_unreadable_file_is_named(folder, monkeypatch):
    """The system's refusal, which root never gets."""
    path = folder / FIRST

    def refuse(opened, *args, **kwargs):
        if str(opened) == str(path):
            raise PermissionError(13, "Permission denied", str(opened))
        return original(opened, *args, **kwargs)

    original = Image.open
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DataError, match="Permission denied") as error:
        read_images(find_images(folder))
    assert str(path) in str(error.value)


def test_images_that_do_not_fit_into_memory(folder):
    with pytest.raises(DataError, match="--image-size") as error:
        read_images(find_images(folder), image_size=2**26)
    assert str(folder) in str(error.value)
