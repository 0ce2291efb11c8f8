"""Published files: IDX, CIFAR's binary version, SVHN's MATLAB, the hub's Parquet."""

import functools
import gzip
import hashlib
import importlib
import io
import math
import pathlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError, SourceMissingError
from . import data_files
from .catalogue import PublishedData, PublishedSplit
from .data_files import Paths
from .dataset import RawSplit

_MOST_LAYERS = 3  # of gzip around a file; a browser or a server may add one


def read_published_files(
    data: PublishedData, split: PublishedSplit, paths: Paths
) -> RawSplit:
    """Reads the files of one split, which are in the order of the catalogue."""
    return _READERS[data.format](data, split, paths)


def _read_idx(data: PublishedData, split: PublishedSplit, paths: Paths) -> RawSplit:
    """A file of grey images and the file of their labels: a header, then bytes."""
    height, width, _ = data.image_shape
    shapes = ((split.num_images, height, width), (split.num_images,))
    arrays = []
    for path, md5, shape in zip(paths, split.files.values(), shapes, strict=True):
        # 8 is the code of unsigned bytes.
        header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
        content = _read(path, md5, len(header) + math.prod(shape))
        if not content.startswith(header):
            got, wanted = content[: len(header)].hex(" ", -4), header.hex(" ", -4)
            raise DataError(f"{path}: must begin with {wanted}. Got {got} instead.")
        array = np.frombuffer(content, np.uint8, offset=len(header))
        arrays.append(array.reshape(shape))
    return RawSplit(arrays[0][..., np.newaxis], arrays[1])


def _read_cifar(
    data: PublishedData, split: PublishedSplit, paths: Paths, *, label_bytes: int
) -> RawSplit:
    """Files of equally many images: for each its labels (the last counts), then pixels."""
    height, width, channels = data.image_shape
    record_bytes = label_bytes + math.prod(data.image_shape)
    size = split.num_images // len(paths) * record_bytes
    files = zip(paths, split.files.values(), strict=True)
    content = b"".join(_read(path, md5, size) for path, md5 in files)
    records = np.frombuffer(content, np.uint8).reshape(-1, record_bytes)
    planes = records[:, label_bytes:].reshape(-1, channels, height, width)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return RawSplit(images, records[:, label_bytes - 1])


def _read_svhn(data: PublishedData, split: PublishedSplit, paths: Paths) -> RawSplit:
    """X (height, width, channels, n) and y (n, 1), where the label 10 means 0."""
    from scipy.io import loadmat

    (path,), (md5,) = paths, split.files.values()
    content = _read(path, md5, start=b"MATLAB 5.0")
    try:
        arrays = loadmat(io.BytesIO(content), variable_names=("X", "y"))
    except Exception as error:  # of a damaged file loadmat raises all kinds
        problem = f"is damaged ({type(error).__name__}: {error})"
        raise DataError(f"{path}: {problem}. Download it again.") from error
    shapes = {"X": (*data.image_shape, split.num_images), "y": (split.num_images, 1)}
    for name, shape in shapes.items():
        array = np.asarray(arrays.get(name))
        if (array.shape, array.dtype) != (shape, np.uint8):
            got = f"{array.dtype} of shape {array.shape}" if name in arrays else "none"
            problem = f"{name} must be an array of uint8 of shape {shape}. Got {got}"
            raise DataError(f"{path}: {problem} instead.")
    labels = arrays["y"][:, 0]
    if labels.min() < 1 or labels.max() > 10:
        problem = f"y must be from 1 to 10. Got {labels.min()} to {labels.max()}"
        raise DataError(f"{path}: {problem} instead.")
    images = np.ascontiguousarray(arrays["X"].transpose(3, 0, 1, 2))
    return RawSplit(images, labels % 10)


def _read(
    path: pathlib.Path, md5: str | None, size: int | None = None, start: bytes = b""
) -> bytes:
    """The bytes of a file, decompressed if they are gzip's, whatever its name."""
    try:
        with path.open("rb") as opened:
            file, head = opened, data_files.peek(opened)
            for _ in range(_MOST_LAYERS):
                if head.startswith(data_files.GZIP):
                    file = gzip.GzipFile(mode="rb", fileobj=file)
                    head = data_files.peek(file)
            if not (start and head.startswith(start)):
                data_files.refuse_content(path, head)
            # One byte more tells of a longer file, and unpacks no more of it.
            content = file.read(-1 if size is None else size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        problem = f"its compression is cut short or damaged ({error})"
        raise DataError(f"{path}: {problem}. Download it again.") from error
    except OSError as error:
        raise data_files.unreadable(path, error) from error
    if size is not None and len(content) != size:
        got = "more" if len(content) > size else f"{len(content):,}"
        raise DataError(f"{path}: must hold {size:,} bytes. Got {got} instead.")
    # What publishers give: it finds mistaken files, but is no proof against an attacker.
    checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 not in (None, checksum):
        problem = f"the MD5 checksum must be {md5}. Got {checksum} instead"
        raise DataError(f"{path}: {problem}, so the file is damaged or another one.")
    return content


_READERS: Mapping[str, Callable[..., RawSplit]] = {
    "idx": _read_idx,
    "svhn": _read_svhn,
    "cifar10": functools.partial(_read_cifar, label_bytes=1),
    "cifar100": functools.partial(_read_cifar, label_bytes=2),
}


def read_parquet_files(
    data: PublishedData, split: PublishedSplit, paths: Paths
) -> RawSplit:
    """Reads the files of one split, one after the other, and decodes the images."""
    # Names like train-00000-of-00002.parquet say how many there must be.
    numbers = [re.search(r"-(\d+)-of-(\d+)\.", path.name.lower()) for path in paths]
    there = {int(number[1]) for number in numbers if number}
    wanted = max((int(number[2]) for number in numbers if number), default=0)
    for number in sorted(set(range(wanted)) - there):
        problem = f"there must be {wanted} such files. Number {number} is missing"
        raise DataError(f"{paths[0]}: {problem} beside it.")
    rows = [
        (f"{path}: row {number}", *cells)
        for path in paths
        for number, cells in enumerate(_rows(path, data))
    ]
    if len(rows) != split.num_images:
        problem = f"must have {split.num_images:,} rows. Got {len(rows):,} instead"
        raise DataError(f"{', '.join(map(str, paths))}: {problem}.")
    images = [_pixels(where, image, data.image_shape) for where, image, _ in rows]
    for where, _, label in rows:
        if isinstance(label, bool) or not isinstance(label, int):
            problem = f"the label must be an integer. Got {label!r} instead"
            raise DataError(f"{where}: {problem}.")
    return RawSplit(np.stack(images), np.array([label for *_, label in rows]))


def _rows(path: pathlib.Path, data: PublishedData) -> Iterator[tuple[Any, Any]]:
    """The image and the label of each row, as they are stored."""
    content = path.read_bytes()  # An error of the system is no damage.
    head = content[: data_files.HEAD_BYTES]
    if not head.startswith(data_files.PARQUET):
        data_files.refuse_content(path, head)
        raise DataError(f"{path}: is no Parquet file. Download it again.")
    parquet = import_extra("pyarrow.parquet")
    columns = [data.image_column, data.label_column]
    try:
        with parquet.ParquetFile(io.BytesIO(content)) as file:
            found = file.schema_arrow.names
            table = file.read(columns).to_pydict()
    except Exception as error:  # of a damaged file Arrow raises all kinds
        problem = f"is cut short or damaged ({type(error).__name__}: {error})"
        raise DataError(f"{path}: {problem}. Download it again.") from error
    if not set(columns) <= set(found):
        accepted = f"must have the columns {' and '.join(columns)}"
        raise DataError(f"{path}: {accepted}. Got {', '.join(found)} instead.")
    return zip(*(table[column] for column in columns), strict=True)


def _pixels(where: str, cell: Any, image_shape: tuple[int, int, int]) -> np.ndarray:
    """The pixels of a PNG, which is decoded as nothing else."""
    content = cell.get("bytes") if isinstance(cell, Mapping) else None
    if not isinstance(content, bytes):
        raise DataError(f"{where}: the image must be stored as the bytes of a PNG.")
    height, width, channels = image_shape
    mode = {1: "L", 3: "RGB"}[channels]
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            got = f"{image.width}x{image.height} of mode {image.mode}"
            if (image.size, image.mode) == ((width, height), mode):
                return np.asarray(image).reshape(image_shape)
    except Exception as error:  # of a damaged image Pillow raises all kinds
        found = data_files.content_of(content[: data_files.HEAD_BYTES])
        got = found or f"bytes that begin with {content[:8].hex()}"
        if content.startswith(data_files.PNG):
            got = f"one that cannot be decoded ({type(error).__name__})"
        problem = f"the image must be a PNG. Got {got} instead"
        raise DataError(f"{where}: {problem}.") from error
    accepted = f"the image must be {width}x{height} of mode {mode}"
    raise DataError(f"{where}: {accepted}. Got {got} instead.")


def import_extra(name: str) -> Any:
    """A module of the extra `hub`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SourceMissingError(
            f"{error.name} is not installed. Install with: pip install "
            '"heavytail-optax[hub]"'
        ) from error
