"""The binary version of CIFAR: for each image its label or labels, then its pixels."""

import pathlib
from collections.abc import Sequence

import numpy as np

from heavytail_optax.experiments.data._arrays import Arrays
from heavytail_optax.experiments.data._catalogue import PublishedFile
from heavytail_optax.experiments.data._files import check_md5, read_file


def read_cifar_files(
    paths: Sequence[pathlib.Path],
    published: Sequence[PublishedFile],
    image_shape: tuple[int, int, int],
    num_images: int,
    *,
    label_bytes: int = 1,
) -> Arrays:
    """Reads files that hold the same number of images each, and joins them."""
    height, width, channels = image_shape
    record_bytes = label_bytes + height * width * channels
    pieces = []
    for path, file in zip(paths, published, strict=True):
        content = read_file(path, num_images // len(paths) * record_bytes)
        check_md5(path, content, file.md5)
        pieces.append(np.frombuffer(content, np.uint8).reshape(-1, record_bytes))
    records = np.concatenate(pieces)
    planes = records[:, label_bytes:].reshape(-1, channels, height, width)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return Arrays(images, records[:, label_bytes - 1].copy())
