"""The published data sets, one entry each: files, checksums, numbers of images, sources.

Numbers of images and classes are from the data sets' own pages, SVHN's of each digit from
public code. The checksums of FashionMNIST were computed from Debian's package and agree
with public code; those of SVHN and CIFAR10 are the ones that public code checks downloads
against. For CIFAR100's files none was found.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

DataName = Literal["digits", "folder", "fashion-mnist", "svhn", "cifar10", "cifar100"]
"""scikit-learn's digits, a folder of the user's images, and the keys of `CATALOGUE`."""

DIGITS = 1797
"""Number of scikit-learn's digits."""


class PublishedSplit(NamedTuple):
    """The training images or the test images."""

    files: Mapping[str, str | None]  # name -> MD5 of the uncompressed file, if known
    class_counts: tuple[int, ...]  # number of images of each class

    @property
    def num_images(self) -> int:
        """Number of images."""
        return sum(self.class_counts)


class PublishedData(NamedTuple):
    """A data set and its sources: files, a system's package, the Hugging Face hub."""

    title: str
    image_shape: tuple[int, int, int]  # (height, width, channels)
    format: Literal["idx", "svhn", "cifar10", "cifar100"]  # of the files
    train: PublishedSplit
    test: PublishedSplit
    folders: tuple[str, ...]  # in a data directory; or the files lie in it directly
    hub: str  # name of the repository
    hub_folder: str  # in the repository
    image_column: str = "image"  # of the hub's Parquet files
    label_column: str = "label"
    package: str | None = None
    package_folder: str = ""  # that the package fills
    archives: tuple[str, ...] = ()  # to be unpacked first
    pickled: tuple[str, ...] = ()  # names of the pickled version, which is refused

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.train.class_counts)


CATALOGUE: Mapping[str, PublishedData] = {
    "fashion-mnist": PublishedData(
        title="FashionMNIST",
        image_shape=(28, 28, 1),
        format="idx",
        train=PublishedSplit(
            {
                "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            },
            (6000,) * 10,
        ),
        test=PublishedSplit(
            {
                "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
                "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
            },
            (1000,) * 10,
        ),
        folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "data/fashion"),
        hub="zalando-datasets/fashion_mnist",
        hub_folder="fashion_mnist",
        package="dataset-fashion-mnist",
        package_folder="/usr/share/datasets/fashion-mnist",
    ),
    "svhn": PublishedData(
        title="SVHN",
        image_shape=(32, 32, 3),
        format="svhn",
        train=PublishedSplit(
            {"train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373"},
            (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
        ),
        test=PublishedSplit(
            {"test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3"},
            (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
        ),
        folders=("svhn",),
        hub="ufldl-stanford/svhn",
        hub_folder="cropped_digits",
    ),
    "cifar10": PublishedData(
        title="CIFAR10",
        image_shape=(32, 32, 3),
        format="cifar10",
        train=PublishedSplit(
            {
                "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
                "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
                "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
                "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
                "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
            },
            (5000,) * 10,
        ),
        test=PublishedSplit(
            {"test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d"}, (1000,) * 10
        ),
        folders=("cifar-10-batches-bin", "cifar10"),
        hub="uoft-cs/cifar10",
        hub_folder="plain_text",
        image_column="img",
        archives=("cifar-10-binary.tar.gz",),
        pickled=("data_batch_1", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
    ),
    "cifar100": PublishedData(
        title="CIFAR100",
        image_shape=(32, 32, 3),
        format="cifar100",
        train=PublishedSplit({"train.bin": None}, (500,) * 100),
        test=PublishedSplit({"test.bin": None}, (100,) * 100),
        folders=("cifar-100-binary", "cifar100"),
        hub="uoft-cs/cifar100",
        hub_folder="cifar100",
        image_column="img",
        label_column="fine_label",
        archives=("cifar-100-binary.tar.gz",),
        pickled=("meta", "cifar-100-python", "cifar-100-python.tar.gz"),
    ),
}
