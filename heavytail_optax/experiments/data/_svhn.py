"""SVHN's cropped digits: MATLAB files with the arrays X and y."""

import io
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from heavytail_optax.experiments.data._arrays import Arrays
from heavytail_optax.experiments.data._catalogue import PublishedFile
from heavytail_optax.experiments.data._errors import DataError
from heavytail_optax.experiments.data._files import check_md5, read_file


def read_svhn_file(
    paths: Sequence[pathlib.Path],
    published: Sequence[PublishedFile],
    image_shape: tuple[int, int, int],
    num_images: int,
) -> Arrays:
    """Reads X (height, width, channels, n) and y (n, 1), where the label 10 means 0."""
    (path,), (file,) = paths, published
    content = read_file(path, expected_start=b"MATLAB 5.0")
    check_md5(path, content, file.md5)
    arrays = _load(path, content)
    images = _array(path, arrays, "X", (*image_shape, num_images))
    labels = _array(path, arrays, "y", (num_images, 1))[:, 0]
    if labels.size and (labels.min() < 1 or labels.max() > 10):
        raise DataError(
            f"{path}: labels in y must be from 1 to 10. "
            f"Got {labels.min()} to {labels.max()} instead."
        )
    return Arrays(np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels % 10)


def _load(path: pathlib.Path, content: bytes) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        return loadmat(io.BytesIO(content), variable_names=("X", "y"))
    except Exception as error:  # of a damaged file loadmat raises all kinds
        problem = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: cannot be read as a MATLAB file ({problem}).") from (
            error
        )


def _array(
    path: pathlib.Path, arrays: dict[str, Any], name: str, shape: tuple[int, ...]
) -> np.ndarray:
    """One of the arrays, as bytes; never one of Python objects."""
    array = arrays.get(name)
    accepted = f"{path}: {name} must be an array of shape {shape} and dtype uint8."
    if array is None:
        raise DataError(f"{accepted} There is no {name} in the file.")
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        got = getattr(array, "dtype", type(array).__name__)
        raise DataError(f"{accepted} Got {got} instead.")
    if array.shape != shape:
        raise DataError(f"{accepted} Got shape {array.shape} instead.")
    return array
