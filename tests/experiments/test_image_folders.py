"""Which images a folder has: classes, order, splits; and training on them."""

import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from small_data_sets import NAMES, load_dataset, png, random_splits
from written_images import random_image, write_classes, write_folder, write_image

from heavytail_optax import cli
from heavytail_optax.experiments.data.catalogue import CATALOGUE
from heavytail_optax.experiments.data.dataset import describe_dataset
from heavytail_optax.experiments.data.image_folders import find_images
from heavytail_optax.experiments.errors import DataError
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.runs.run import cached_loader


def names_of(files):
    return [file.name for file in files]


def test_classes_are_numbered_by_their_sorted_names(tmp_path):
    """By code points: capitals come first, and 10 before 9."""
    names = ("b", "a", "Z", "10", "9", "\u00e9", "a b, c")
    write_classes(tmp_path / "train", classes=names)
    write_classes(tmp_path / "test", classes=("a", "9"), number=1)
    found = find_images(tmp_path)
    assert found.class_names == ("10", "9", "Z", "a", "a b, c", "b", "\u00e9")
    assert [file.class_name for file in found.test] in (["a", "9"], ["9", "a"])
    labels = found.labels(found.train)
    assert [found.class_names[label] for label in labels] == [
        pathlib.Path(file.path).parent.name for file in found.train
    ]


def test_the_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    """Neither on the order in which it lists names, nor on how it writes accents."""
    root = write_folder(tmp_path / "one", classes=("caf\u00e9", "bee"), number=30)
    other = tmp_path / "another place"
    for path in sorted(root.rglob("*.*"), reverse=True):
        # As a Mac has it: the letter, then the accent.
        relative = str(path.relative_to(root)).replace("\u00e9", "e\u0301")
        (other / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other / relative)
    one, listed = find_images(root), os.scandir
    monkeypatch.setattr(os, "scandir", lambda place: Reversed(listed(place)))
    two = find_images(other)
    assert names_of(one.train) == names_of(two.train)
    assert names_of(one.test) == names_of(two.test)
    assert one.class_names == two.class_names


class Reversed(list):
    """The entries of a folder in another order."""

    def __init__(self, entries):
        with entries:
            super().__init__(reversed(list(entries)))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


def test_the_first_images_are_a_random_sample(tmp_path):
    """Of 400 images of two classes the first 100 have about 50 of each.

    The number of one class is hypergeometric with a standard deviation of 4.3: it is more
    than 5 of them away with a probability of less than 1e-6. In the order of the names it
    would be 100.
    """
    image = random_image(np.random.default_rng(0), (16, 16))
    for name in ("ant", "bee"):
        for number in range(200):
            write_image(tmp_path / name / f"{number}.png", image)
    found = find_images(tmp_path, test_share=0.01)
    assert abs(found.labels(found.train)[:100].sum() - 50) < 5 * 4.3
    by_name = sorted(found.train, key=lambda file: file.name)
    assert found.labels(by_name)[:100].sum() == 0


@pytest.mark.parametrize("is_inner", [False, True], ids=["classes", "train/classes"])
def test_a_share_of_each_class_is_for_testing(tmp_path, is_inner):
    place = tmp_path / "train" if is_inner else tmp_path
    write_classes(place, classes=("ant", "bee"), number=20)
    write_classes(place, classes=("cow",), number=1)
    found = find_images(tmp_path, test_share=0.25)
    train, test = set(names_of(found.train)), set(names_of(found.test))
    assert np.bincount(found.labels(found.test)).tolist() == [5, 5]
    assert np.bincount(found.labels(found.train)).tolist() == [15, 15, 1]
    assert not train & test and len(train | test) == 41
    # Another share gives more of the same images.
    assert test < set(names_of(find_images(tmp_path, test_share=0.5).test))
    first = {f"{name}/image {number}" for name in ("ant", "bee") for number in range(5)}
    assert {name.rpartition(".")[0] for name in test} != first


def test_what_systems_leave_is_no_image(tmp_path):
    root = write_folder(tmp_path)
    before = names_of(find_images(root).train)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._image 0.png"):
        (root / "train/ant" / name).write_bytes(b"\0")
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (root / "train" / name).mkdir()
    (root / "train/README.md").write_text("Three animals.")
    assert names_of(find_images(root).train) == before


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN"])
def test_the_two_folders_may_have_any_case(tmp_path, train):
    write_classes(tmp_path / train)
    write_classes(tmp_path / "Test", number=1)
    found = find_images(tmp_path)
    assert (len(found.train), len(found.test)) == (12, 3)


def write_published(data, root):
    """The small data set as PNG files, and its arrays."""
    splits = random_splits(data)
    for name, split in zip(("train", "test"), splits, strict=True):
        for number, (image, label) in enumerate(zip(*split, strict=True)):
            path = root / name / f"class {label:03}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(image))
    return splits


def as_set(images, labels):
    pairs = zip(np.asarray(images), np.asarray(labels).tolist(), strict=True)
    return sorted((label, image.tobytes()) for image, label in pairs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_inner", [False, True], ids=["direct", "folder"])
def test_published_data_as_folders(catalogue, load_small, tmp_path, name, is_inner):
    data, root = catalogue[name], tmp_path / "data"
    train, test = write_published(data, root / data.folders[-1] if is_inner else root)
    number = data.train.num_images
    dataset = load_small(name, root, clean_examples=number, corrupted_examples=0)
    assert as_set(*dataset.train) == as_set(*train)
    assert as_set(*dataset.test) == as_set(*test)
    assert dataset.class_names[1] == "class 001"
    assert describe_dataset(dataset)["source"] == "folder of images"


def test_published_data_that_are_not(catalogue, load_small, tmp_path):
    """An image less, an image of another size; a grey image in colour is no other one."""
    data = catalogue["fashion-mnist"]
    write_published(data, tmp_path)
    first = min((tmp_path / "train/class 003").iterdir())
    content = first.read_bytes()
    Image.open(first).convert("RGB").save(first)
    assert load_small("fashion-mnist", tmp_path).train.images.shape[1:] == (28, 28, 1)
    Image.open(first).resize((29, 28)).save(first)
    with pytest.raises(DataError, match="29x28") as error:
        load_small("fashion-mnist", tmp_path)
    assert str(first) in str(error.value)
    first.unlink()
    with pytest.raises(DataError, match="label 3") as error:
        load_small("fashion-mnist", tmp_path)
    assert str(tmp_path / "train") in str(error.value)
    first.write_bytes(content)
    load_small("fashion-mnist", tmp_path)


def test_corrupted_labels_are_of_the_last_images(tmp_path):
    write_folder(tmp_path, number=40)
    own = replaced(PRESETS["folder"].settings, clean_examples=20, corrupted_examples=90)
    one, two = (
        load_dataset(own.data, jax.random.key(seed), tmp_path) for seed in (0, 1)
    )
    found = find_images(tmp_path)
    truth = found.labels(found.train)[:110]
    np.testing.assert_array_equal(one.true_train_labels, truth)
    np.testing.assert_array_equal(one.train.labels[:20], truth[:20])
    # Of three classes, a third of the drawn labels is right: 30 +- 4.5 of 90.
    for dataset in (one, two):
        right = int((dataset.train.labels[20:] == truth[20:]).sum())
        assert abs(right - 30) < 5 * 4.5
    assert (one.train.labels != two.train.labels).any()
    np.testing.assert_array_equal(one.train.images, two.train.images)


def test_the_images_are_read_once_for_all_seeds(tmp_path):
    write_folder(tmp_path, number=40)
    own = replaced(PRESETS["folder"].settings, clean_examples=20, corrupted_examples=90)
    ticks = []
    load = cached_loader(tmp_path, lambda *each: ticks.append(each), is_kept=False)
    first = load(own)
    assert (read := len(ticks)) > 0
    second, again = load(replaced(own, seed=1)), load(own)
    assert len(ticks) == read
    assert (first.train.labels != second.train.labels).any()
    for one, other in zip(
        jax.tree.leaves(first.train), jax.tree.leaves(again.train), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    # Other data are read.
    load(replaced(own, clean_examples=21))
    assert len(ticks) > read


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Three classes in mixed formats, sizes and colours; the command to train on them."""
    monkeypatch.chdir(tmp_path)
    sizes = ((20, 20), (31, 17), (18, 40))
    write_folder(tmp_path / "images", number=9, sizes=sizes)
    options = ["--steps", "4", "--batch-size", "5", "--methods", "sgd", "balanced"]
    return ["train", "--data", "folder", "--data-dir", "images", *options]


def config_of(directory):
    return json.loads((directory / "sgd/seed-0/config.json").read_text("utf-8"))


def test_a_folder_of_ones_own_is_trained_on(own, tmp_path, capsys):
    run = tmp_path / "run"
    size = ["--image-size", "18"]
    assert cli.main([*own, *size, "--directory", "run"]) == 0
    assert (run / "training.png").exists()
    data = config_of(run)["data"]
    assert (data["train_images"], data["test_images"], data["classes"]) == (27, 6, 3)
    assert data["class_names"] == "ant, bee, cow"
    assert data["wrong_train_labels"] == 0
    assert config_of(run)["settings"]["clean_examples"] == 27
    # It is measured, also after the folder was moved.
    (tmp_path / "images").rename(tmp_path / "moved")
    measure = ["flatness", "run", "--measures", "expected", "--data-dir", "moved"]
    assert cli.main(measure) == 0
    # Another image is noticed.
    write_image(tmp_path / "moved/train/ant/new.png", Image.new("RGB", (20, 20)))
    capsys.readouterr()
    assert cli.main([*measure, "--again"]) == 2
    assert "not those" in capsys.readouterr().err


def test_random_labels_and_a_random_split_from_the_command_line(own, tmp_path):
    shutil.rmtree(tmp_path / "images/test")
    options = ["--image-size", "16", "--corrupted-examples", "6", "--directory", "run"]
    assert cli.main([*own, "--test-share", "0.34", *options]) == 0
    config = config_of(tmp_path / "run")
    data, settings = config["data"], config["settings"]
    assert (data["train_images"], data["test_images"]) == (18, 9)
    assert (settings["clean_examples"], settings["corrupted_examples"]) == (12, 6)
    assert settings["test_examples"] == 9


def test_a_grid_of_a_folder(own, tmp_path, capsys):
    """The same command goes on; the presets take a folder in place of their data."""
    command = ["reproduce", *own[1:], "--image-size", "16", "--measures", "expected"]
    assert cli.main([*command, "--num-seeds", "1"]) == 0
    assert cli.main([*command, "--num-seeds", "2"]) == 0
    assert (tmp_path / "grids/folder/summary.csv").exists()
    numbers = ["--clean-examples", "20", "--corrupted-examples", "5"]
    preset = ["train", "corrupted-digits", *own[1:], *numbers, "--directory", "run"]
    assert cli.main(preset) == 0
    settings = config_of(tmp_path / "run")["settings"]
    assert (settings["image_size"], settings["clean_examples"]) == (28, 20)


def test_a_grid_has_one_set_of_images(own, tmp_path, capsys):
    """Also where another folder has as many, of the same classes."""
    command = ["reproduce", "--data", "folder", "--image-size", "16", "--steps", "2"]
    command += ["--batch-size", "5", "--methods", "sgd", "--measures", "expected"]
    first = [*command, "--data-dir", "images"]
    assert cli.main([*first, "--num-seeds", "1"]) == 0
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    shutil.copytree(tmp_path / "images", tmp_path / "others")
    image = random_image(np.random.default_rng(8), (20, 20))
    path = min((tmp_path / "others/train/ant").iterdir())
    write_image(path, image)
    before = (tmp_path / "grids/folder/grid.json").read_bytes()
    for seeds in ("1", "2"):
        other = [*command, "--data-dir", "others", "--num-seeds", seeds]
        capsys.readouterr()
        assert cli.main(other) == 2
        error = capsys.readouterr().err
        assert "--data-dir" in error and "--directory" in error
    assert (tmp_path / "grids/folder/grid.json").read_bytes() == before
    assert not (tmp_path / "grids/folder/sgd/seed-1").exists()
    # Negative control: the same images from another place.
    moved = [*command, "--data-dir", "copy"]
    assert cli.main([*moved, "--num-seeds", "2"]) == 0
    # What is finished is shown without them.
    shutil.rmtree(tmp_path / "copy")
    assert cli.main([*moved, "--num-seeds", "2"]) == 0
    assert cli.main([*moved, "--num-seeds", "3"]) == 2


def test_counts_are_of_the_swapped_folders(own, tmp_path):
    options = ["--swap-train-and-test", "--image-size", "16", "--directory", "run"]
    assert cli.main([*own, *options]) == 0
    data = config_of(tmp_path / "run")["data"]
    assert (data["train_images"], data["test_images"]) == (6, 27)


def test_the_images_for_testing_are_counted_too(own, tmp_path):
    """They decide how often is evaluated, so that all processes must know their number."""
    options = ["--image-size", "16", "--clean-examples", "20", "--directory", "run"]
    assert cli.main([*own, *options]) == 0
    settings = config_of(tmp_path / "run")["settings"]
    assert (settings["clean_examples"], settings["test_examples"]) == (20, 6)


@pytest.mark.parametrize("data", ["digits", *CATALOGUE])
def test_only_a_folder_has_a_share_for_testing(data, tiny):
    settings = replaced(tiny, data=data, test_share=0.5, image_size=32)
    with pytest.raises(DataError, match="`test_share`"):
        load_dataset(settings.data, jax.random.key(0))


@pytest.mark.parametrize("data", ["digits", *CATALOGUE])
def test_only_a_folder_is_counted(data, capsys):
    """The preset of folders leaves the number of images open, which others need."""
    assert cli.main(["train", "folder", "--data", data]) == 2
    assert "--clean-examples" in capsys.readouterr().err
