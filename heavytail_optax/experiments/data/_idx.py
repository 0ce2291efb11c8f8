"""IDX files, the format of FashionMNIST: a big-endian header, then unsigned bytes."""

import pathlib
from collections.abc import Sequence

import numpy as np

from heavytail_optax.experiments.data._arrays import Arrays
from heavytail_optax.experiments.data._catalogue import PublishedFile
from heavytail_optax.experiments.data._errors import DataError
from heavytail_optax.experiments.data._files import check_md5, read_file

_UNSIGNED_BYTES = 8


def read_idx_files(
    paths: Sequence[pathlib.Path],
    published: Sequence[PublishedFile],
    image_shape: tuple[int, int, int],
    num_images: int,
) -> Arrays:
    """Reads a file of grey images and the file of their labels."""
    height, width, _ = image_shape
    shapes = ((num_images, height, width), (num_images,))
    images, labels = (
        _read(*arguments) for arguments in zip(paths, published, shapes, strict=True)
    )
    return Arrays(images[..., np.newaxis], labels)


def _read(
    path: pathlib.Path, published: PublishedFile, shape: tuple[int, ...]
) -> np.ndarray:
    sizes = np.array(shape, ">u4").tobytes()
    magic_number = bytes([0, 0, _UNSIGNED_BYTES, len(shape)])
    header = magic_number + sizes
    expected_bytes = len(header) + int(np.prod(shape))
    content = read_file(path, expected_bytes)
    if content[:4] != magic_number:
        raise DataError(
            f"{path}: an IDX file of bytes in {len(shape)} dimensions must start with "
            f"{magic_number.hex()}. Got {content[:4].hex()} instead."
        )
    if content[4 : len(header)] != sizes:
        got = np.frombuffer(content[4 : len(header)], ">u4").tolist()
        raise DataError(f"{path}: must be of shape {list(shape)}. Got {got} instead.")
    check_md5(path, content, published.md5)
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
