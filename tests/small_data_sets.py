"""Data sets of a few random images, written in the formats of the published ones."""

import gzip
import hashlib
import io
import shutil
import struct

import huggingface_hub
import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image
from scipy.io import savemat

from heavytail_optax.experiments.data.catalogue import CATALOGUE
from heavytail_optax.experiments.data.dataset import RawSplit, with_random_labels
from heavytail_optax.experiments.data.loading import read_dataset

NAMES = tuple(CATALOGUE)
IMAGES_OF_A_CLASS = {"train": 2, "test": 1}


def load_dataset(settings, key, data_dir=None, catalogue=CATALOGUE):
    """The data of a run, whose random labels are a function of the key."""
    dataset = read_dataset(settings, data_dir, catalogue)
    return with_random_labels(dataset, key, settings.clean_examples)


def small_catalogue(folder):
    """The published data sets with two training images and one test image a class.

    No checksum is known, and no package is installed.
    """
    return {name: _shrink(data, folder) for name, data in CATALOGUE.items()}


def without_checksums(data):
    """The same data set, of which any file will do that has its format and size."""

    def forget(split):
        return split._replace(files=dict.fromkeys(split.files))

    return data._replace(train=forget(data.train), test=forget(data.test))


def _shrink(data, folder):
    data = without_checksums(data)

    def shrink(split, images_of_a_class):
        counts = (images_of_a_class,) * len(split.class_counts)
        return split._replace(class_counts=counts)

    return data._replace(
        train=shrink(data.train, IMAGES_OF_A_CLASS["train"]),
        test=shrink(data.test, IMAGES_OF_A_CLASS["test"]),
        package_folder=str(folder / "package"),
    )


def with_checksums(data, folder):
    """The same data set, whose published checksums are those of the files there."""

    def read(split):
        contents = {name: (folder / name).read_bytes() for name in split.files}
        md5 = {name: hashlib.md5(content) for name, content in contents.items()}
        return split._replace(files={k: v.hexdigest() for k, v in md5.items()})

    return data._replace(train=read(data.train), test=read(data.test))


def random_splits(data, seed=0):
    """Random images and shuffled labels for the training and the test split."""
    rng = np.random.default_rng(seed)

    def draw(split):
        labels = np.repeat(np.arange(data.num_classes), split.class_counts)
        rng.shuffle(labels)
        shape = (split.num_images, *data.image_shape)
        return RawSplit(rng.integers(0, 256, shape, np.uint8), labels)

    return draw(data.train), draw(data.test)


def original_files(data, train, test):
    """The content of each file that the authors would distribute, by its name."""
    write = {
        "idx": _idx_files,
        "svhn": _svhn_file,
        "cifar10": _cifar_files,
        "cifar100": _cifar_files,
    }[data.format]
    contents = {}
    for split, arrays in ((data.train, train), (data.test, test)):
        written = write(data, arrays, len(split.files))
        contents.update(zip(split.files, written, strict=True))
    return contents


def write_files(folder, contents, *, compressed=False):
    """Writes files, each with .gz appended if compressed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if compressed:
            name, content = f"{name}.gz", gzip.compress(content, mtime=0)
        (folder / name).write_bytes(content)


def write_random_files(data, folder, **options):
    """Random splits, and the content of their files, which are written to a folder."""
    train, test = random_splits(data)
    contents = original_files(data, train, test)
    write_files(folder, contents, **options)
    return train, test, contents


def _idx_files(data, arrays, number):
    assert number == 2
    n, height, width, _ = arrays.images.shape
    return [
        struct.pack(">IIII", 0x803, n, height, width) + arrays.images.tobytes(),
        struct.pack(">II", 0x801, n) + arrays.labels.astype(np.uint8).tobytes(),
    ]


def _svhn_file(data, arrays, number):
    assert number == 1
    labels = np.where(arrays.labels == 0, 10, arrays.labels).astype(np.uint8)
    return [mat_file(X=arrays.images.transpose(1, 2, 3, 0), y=labels[:, None])]


def mat_file(**arrays):
    """The content of a MATLAB file."""
    buffer = io.BytesIO()
    savemat(buffer, arrays, do_compression=True)
    return buffer.getvalue()


def _cifar_files(data, arrays, number):
    records = []
    for image, label in zip(arrays.images, arrays.labels.tolist(), strict=True):
        coarse = [label % 20] if data.format == "cifar100" else []
        records.append(bytes([*coarse, label]) + image.transpose(2, 0, 1).tobytes())
    size = len(records) // number
    return [b"".join(records[i * size : (i + 1) * size]) for i in range(number)]


def png(image):
    """The bytes of an image of shape (height, width, channels)."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def hub_columns(data, arrays):
    """The two columns as the hub has them, beside one that is not read."""
    images = [{"bytes": png(image), "path": None} for image in arrays.images]
    return {
        data.image_column: images,
        data.label_column: arrays.labels.tolist(),
        "coarse_label": [0] * len(images),
    }


def write_parquet(folder, split, columns):
    """Writes one Parquet file, named as on the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def write_repository(folder, data, train, test):
    """A folder like the hub's repository: two configurations, one of them wanted."""
    for config in (data.hub_folder, "another"):
        reverse = slice(None, None, 1 if config == data.hub_folder else -1)
        for name, arrays in (("train", train), ("test", test), ("extra", test)):
            some = RawSplit(arrays.images[reverse], arrays.labels[reverse])
            write_parquet(folder / config, name, hub_columns(data, some))


def hub_of_folder(hub, repository, *, repo_type, allow_patterns):
    """What `huggingface_hub.snapshot_download` does, from a folder instead of the hub."""
    assert repo_type == "dataset"
    if not hub.is_dir():
        raise ConnectionError(f"{repository}: no network")
    files = (str(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file())
    snapshot = hub.with_name("snapshot")
    for file in huggingface_hub.utils.filter_repo_objects(
        files, allow_patterns=allow_patterns
    ):
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(hub / file, snapshot / file)
    return str(snapshot)
