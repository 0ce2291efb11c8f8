"""Pixels from files of all kinds, and the copy that is kept of them."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image
from small_file_systems import make_read_only, mounted_tmpfs
from written_images import content_of, random_image, write_folder, write_image

from heavytail_optax.experiments.data.decoded_images import (
    PixelLimit,
    keep_images,
    kept_images,
    read_images,
)
from heavytail_optax.experiments.data.image_folders import find_images
from heavytail_optax.experiments.files import user_cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def pixels_of(tmp_path, paths, **options):
    """Each image by its path, read together in one folder of two classes."""
    found = find_images(tmp_path / "images", test_share=None)
    raw = read_images(found, **options)
    images = dict(
        zip((file.path for file in found.train), raw.train.images, strict=True)
    )
    return [images[str(path)] for path in paths]


@pytest.fixture
def place(tmp_path):
    """A folder with a class of one test image and a black image of another class."""
    black = Image.new("L", (24, 24))
    for split in ("train", "test"):
        for name in ("a", "b"):
            write_image(tmp_path / "images" / split / name / "black.png", black)
    return tmp_path / "images/train/a"


RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (24, 24, 3), np.uint8)
GREY = RNG.integers(0, 256, (24, 24), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".BmP", ".webp"])
def test_lossless_files_keep_every_pixel(tmp_path, place, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    path = write_image(place / f"image{suffix}", Image.fromarray(COLOUR), **options)
    (pixels,) = pixels_of(tmp_path, [path])
    np.testing.assert_array_equal(pixels, COLOUR)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_jpeg_is_close(tmp_path, place, suffix):
    """Of a smooth image, which a JPEG of high quality keeps to a few grey levels."""
    ramp = np.linspace(0, 255, 24)
    smooth = np.stack([*np.meshgrid(ramp, ramp), np.full((24, 24), 90.0)], -1)
    image = Image.fromarray(smooth.astype(np.uint8))
    path = write_image(place / f"image{suffix}", image, quality=95, subsampling=0)
    (pixels,) = pixels_of(tmp_path, [path])
    assert np.abs(pixels.astype(int) - smooth).max() < 8


def test_grey_images_stay_grey(tmp_path, place):
    path = write_image(place / "image.png", Image.fromarray(GREY))
    (pixels,) = pixels_of(tmp_path, [path])
    np.testing.assert_array_equal(pixels, GREY[..., np.newaxis])


def test_grey_becomes_colour_where_one_image_has_colour(tmp_path, place):
    grey = write_image(place / "grey.png", Image.fromarray(GREY))
    colour = write_image(place / "colour.png", Image.fromarray(COLOUR))
    one, two = pixels_of(tmp_path, [grey, colour])
    np.testing.assert_array_equal(one, np.repeat(GREY[..., np.newaxis], 3, -1))
    np.testing.assert_array_equal(two, COLOUR)


@pytest.mark.parametrize("kind", ["palette", "bits", "grey of 16 bits"])
def test_other_kinds_of_pixels(tmp_path, place, kind):
    few = GREY // 64
    if kind == "palette":
        colours = np.array(
            [[9, 8, 7], [0, 255, 0], [50, 60, 70], [255, 0, 1]], np.uint8
        )
        image = Image.fromarray(few)
        image.putpalette(colours.ravel().tolist())
        expected = colours[few]
    elif kind == "bits":
        image, expected = Image.fromarray(few > 1), 255 * (few > 1)[..., np.newaxis]
    else:
        wide = GREY.astype(np.uint16) * 256 + few
        image, expected = Image.fromarray(wide), GREY[..., np.newaxis]
    path = write_image(place / "image.png", image)
    (pixels,) = pixels_of(tmp_path, [path])
    np.testing.assert_array_equal(pixels, expected)


def test_what_is_transparent_is_on_black(tmp_path, place):
    alpha = RNG.integers(0, 256, (24, 24, 1), np.uint8)
    alpha[0], alpha[1] = 0, 255
    image = Image.fromarray(np.concatenate([COLOUR, alpha], -1))
    path = write_image(place / "image.png", image)
    (pixels,) = pixels_of(tmp_path, [path])
    expected = COLOUR * (alpha / 255.0)
    # Pillow rounds twice.
    assert np.abs(pixels - expected).max() <= 1
    assert not pixels[0].any() and (pixels[1] == COLOUR[1]).all()


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_images_are_turned_upright(tmp_path, turned, suffix):
    """As EXIF says: what the first row and the first column of the file are."""
    upright = RNG.integers(0, 256, (20, 30, 3), np.uint8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[turned]
    exif = Image.Exif()
    exif[0x0112] = turned
    options = {"lossless": True} if suffix == ".webp" else {}
    path = tmp_path / f"images/train/a/image{suffix}"
    write_image(path, Image.fromarray(stored.copy()), exif=exif, **options)
    # With another one of the upright size, which would else be refused.
    for name in ("train/b", "test/a"):
        write_image(tmp_path / "images" / name / "b.png", Image.fromarray(upright))
    (pixels,) = pixels_of(tmp_path, [path])
    np.testing.assert_array_equal(pixels, upright)


def test_resized_images_keep_their_shape_with_a_black_margin(tmp_path, place):
    """A white image of 40x20 becomes one of 32x16, between two black bands."""
    wide = write_image(place / "wide.png", Image.new("RGB", (40, 20), "white"))
    high = write_image(place / "high.bmp", Image.new("RGB", (16, 64), "white"))
    one, two = pixels_of(tmp_path, [wide, high], image_size=32)
    assert one.shape == two.shape == (32, 32, 3)
    assert (one[8:24] == 255).all() and not one[:8].any() and not one[24:].any()
    assert (two[:, 12:20] == 255).all() and not two[:, :12].any()
    assert not two[:, 20:].any()


def test_halving_takes_means(tmp_path, place):
    """Far from the edges: of a ramp, whose mean anywhere is the value in the middle."""
    ramp = np.tile(np.arange(0, 240, 5, np.uint8), (48, 1))
    path = write_image(place / "ramp.png", Image.fromarray(ramp))
    (pixels,) = pixels_of(tmp_path, [path], image_size=24)
    expected = (ramp[::2, ::2].astype(float) + ramp[::2, 1::2]) / 2
    assert np.abs(pixels[..., 0] - expected)[:, 2:-2].max() <= 1


def is_decoded(root, **options):
    """Whether images are decoded, which the progress shows."""
    ticks = []
    read_images(
        find_images(root), tick=lambda *numbers: ticks.append(numbers), **options
    )
    return bool(ticks)


def images_kept():
    return list((user_cache("images") or pathlib.Path()).glob("*"))


def both(raw):
    return np.concatenate([raw.train.images, raw.test.images])


def test_the_next_run_decodes_nothing(tmp_path):
    root = write_folder(tmp_path / "images")
    first = read_images(find_images(root))
    assert not is_decoded(root)
    again = read_images(find_images(root))
    np.testing.assert_array_equal(both(first), both(again))
    np.testing.assert_array_equal(first.train.labels, again.train.labels)
    assert not list(root.rglob("*.npy"))  # nothing is written beside the images


@pytest.mark.parametrize(
    "change", ["content", "time", "new", "gone", "renamed", "size", "kept is cut"]
)
def test_what_has_changed_is_decoded_again(tmp_path, change):
    root = write_folder(tmp_path / "images")
    assert is_decoded(root)
    path, options = root / "train/ant/image 0.png", {}
    rng = np.random.default_rng(5)
    if change == "content":
        write_image(path, random_image(rng, (20, 20)), compress_level=1)
    elif change == "time":
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    elif change == "new":
        write_image(root / "train/bee/new.png", random_image(rng, (20, 20)))
    elif change == "gone":
        path.unlink()
    elif change == "renamed":
        path.rename(root / "train/ant/another name.png")
    elif change == "size":
        options = {"image_size": 16}
    else:
        (kept,) = images_kept()
        kept.write_bytes(kept.read_bytes()[:-1])
    assert is_decoded(root, **options)
    found = find_images(root)
    now = read_images(found, **options)
    # As without anything kept.
    for kept in images_kept():
        kept.unlink()
    np.testing.assert_array_equal(both(now), both(read_images(found, **options)))


def test_a_folder_has_one_copy_of_each_size(tmp_path):
    root = write_folder(tmp_path / "images")
    for number in range(3):
        os.utime(root / "train/ant/image 0.png", (number, number))
        for image_size in (None, 16):
            read_images(find_images(root), image_size)
    assert len(images_kept()) == 2


def test_a_copy_of_the_folder_has_its_own(tmp_path):
    """Two folders of the same names do not take each other's images."""
    for seed, name in enumerate(("one", "two")):
        rng = np.random.default_rng(seed)
        for place in ("train/a", "train/b", "test/a"):
            path = tmp_path / name / place / "image.bmp"
            write_image(path, random_image(rng, (20, 20)))
            os.utime(path, (0, 0))
    one, two = (both(read_images(find_images(tmp_path / n))) for n in ("one", "two"))
    assert (one != two).any()


def test_the_same_folder_with_train_and_test_exchanged(tmp_path):
    """Names, sizes and times are equal in both."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("a", "b"):
            path = tmp_path / "images" / split / name / "image.bmp"
            write_image(path, random_image(rng, (20, 20)))
            os.utime(path, (0, 0))
        time.sleep(0.05)  # Some file systems count in hundredths of a second.
    root = tmp_path / "images"
    first = read_images(find_images(root))
    (root / "train").rename(root / "other")
    (root / "test").rename(root / "train")
    (root / "other").rename(root / "test")
    second = read_images(find_images(root))
    np.testing.assert_array_equal(second.train.images, first.test.images)
    np.testing.assert_array_equal(second.test.images, first.train.images)


@pytest.mark.parametrize("at", [0, 8, 60, 200, -1])
@pytest.mark.parametrize("damage", [b"\xff", b"PK\x03\x04"], ids=["byte", "zip"])
def test_a_damaged_copy_is_not_taken(tmp_path, at, damage):
    root = write_folder(tmp_path / "images")
    first = read_images(find_images(root))
    (kept,) = images_kept()
    content = bytearray(kept.read_bytes())
    content[at : at + len(damage) or None] = damage
    kept.write_bytes(content)
    assert is_decoded(root)
    np.testing.assert_array_equal(both(read_images(find_images(root))), both(first))
    assert not is_decoded(root)


def test_what_was_not_used_for_longest_goes(tmp_path):
    """Three copies of 1,000 bytes are more than 2,500; the one that was read stays."""
    images = np.zeros((10, 10, 10, 1), np.uint8)
    places = [tmp_path / "kept" / f"{name}-files.npy" for name in "abcd"]
    for number, place in enumerate(places[:3]):
        keep_images(place, images)
        os.utime(place, (number, number))
    assert kept_images(places[0]) is not None
    keep_images(places[3], images, most_bytes=2_500)
    assert [place.exists() for place in places] == [True, False, False, True]
    # What is larger than all of it does not cost the others.
    keep_images(places[1], images, most_bytes=999)
    assert [place.exists() for place in places] == [True, False, False, True]


def test_nothing_is_kept_or_taken_if_that_is_not_wanted(tmp_path):
    root = write_folder(tmp_path / "images")
    assert is_decoded(root, is_kept=False) and not images_kept()
    assert is_decoded(root) and is_decoded(root, is_kept=False)


def test_a_file_in_place_of_the_cache(tmp_path):
    root = write_folder(tmp_path / "images")
    (tmp_path / "cache").write_text("")
    assert read_images(find_images(root)).train.images.shape == (12, 20, 20, 3)


def test_a_user_without_a_home_directory(tmp_path, homeless):
    root = write_folder(tmp_path / "images")
    assert is_decoded(root) and is_decoded(root)


@pytest.mark.parametrize("state", ["read-only", "full"])
def test_a_disk_that_takes_nothing(tmp_path, monkeypatch, state):
    """The images are read, and no half of a copy is left."""
    root = write_folder(tmp_path / "images", number=40)
    with mounted_tmpfs(tmp_path / "disk", "size=16k") as disk:
        if state == "read-only":
            make_read_only(disk)
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
        assert is_decoded(root) and is_decoded(root)
        assert [path for path in disk.rglob("*") if path.is_file()] == []


def test_decoding_stops_at_once(tmp_path, monkeypatch):
    """After the tick has raised, no other image is opened."""
    content = content_of(Image.new("RGB", (2000, 2000)))
    for split, number in (("train", 120), ("test", 1)):
        for name in ("a", "b"):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for index in range(number):
                (place / f"{index}.png").write_bytes(content)
    original, opened = Image.open, []
    monkeypatch.setattr(
        Image, "open", lambda *args, **more: opened.append(1) or original(*args, **more)
    )

    class Stop(Exception):
        pass

    def tick(done, total):
        # All headers are read.
        if len(opened) > 242 + 5:
            raise Stop

    with pytest.raises(Stop):
        read_images(find_images(tmp_path / "images"), 16, tick=tick)
    assert len(opened) < 242 + 200
    assert not images_kept()


def test_threads_share_a_limit_of_pixels():
    """At no time do they have more than 10; what is larger goes alone."""
    limit, together, most, lock = PixelLimit(10), [], [], threading.Lock()

    def work(pixels):
        with limit.room_for(pixels):
            with lock:
                together.append(pixels)
                most.append((sum(together), len(together)))
            time.sleep(0.002)
            with lock:
                together.remove(pixels)

    sizes = [1, 4, 7, 25, 3, 10, 2, 6] * 5
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, sizes))
    assert len(most) == len(sizes)
    assert all(number <= 10 or others == 1 for number, others in most)
    assert max(others for _, others in most) > 1


def test_processes_at_once(tmp_path):
    """Three that start together all read the same images, and one copy is kept."""
    root = write_folder(tmp_path / "images", number=30)
    program = (
        "import hashlib, pathlib, sys\n"
        "from heavytail_optax.experiments.data.decoded_images import read_images\n"
        "from heavytail_optax.experiments.data.image_folders import find_images\n"
        "sys.stdin.readline()\n"
        "raw = read_images(find_images(pathlib.Path(sys.argv[1])))\n"
        "print(hashlib.sha256(raw.train.images).hexdigest())\n"
    )
    command = [sys.executable, "-c", program, str(root)]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **options) for _ in range(3)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = {process.communicate(timeout=300)[0] for process in processes}
    assert len(outputs) == 1 and len(outputs.pop()) == 65
    (kept,) = images_kept()
    assert len(np.load(kept)) == 90 + 6


def test_progress_counts_to_the_end(tmp_path):
    root, ticks = write_folder(tmp_path / "images", number=90), []
    read_images(find_images(root), tick=lambda *numbers: ticks.append(numbers))
    done, totals = zip(*ticks, strict=True)
    assert set(totals) == {276} and list(done) == sorted(done) and done[-1] == 276
    assert len(done) > 1
