"""Parquet files as the Hugging Face hub has them: PNG images and their labels."""

import importlib
import io
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from heavytail_optax.experiments.data import wrong_files
from heavytail_optax.experiments.data.catalogue import PublishedData, PublishedSplit
from heavytail_optax.experiments.data.dataset import RawSplit
from heavytail_optax.experiments.data.folders import Paths
from heavytail_optax.experiments.errors import DataError, SourceMissingError


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
    labels = [_label(where, label) for where, _, label in rows]
    return RawSplit(np.stack(images), np.array(labels))


def _rows(path: pathlib.Path, data: PublishedData) -> Iterator[tuple[Any, Any]]:
    """The image and the label of each row, as they are stored."""
    with path.open("rb") as file:
        head = wrong_files.peek(file)
    if not head.startswith(wrong_files.PARQUET):
        wrong_files.refuse_content(path, head)
        raise DataError(f"{path}: is no Parquet file. Download it again.")
    parquet = import_extra("pyarrow.parquet")
    columns = [data.image_column, data.label_column]
    try:
        with parquet.ParquetFile(path) as file:
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
    pillow = import_extra("PIL.Image")
    try:
        with pillow.open(io.BytesIO(content), formats=("PNG",)) as image:
            got = f"{image.width}x{image.height} of mode {image.mode}"
            if (image.size, image.mode) == ((width, height), mode):
                return np.asarray(image).reshape(image_shape)
    except Exception as error:  # of a damaged image Pillow raises all kinds
        found = wrong_files.content_of(content[: wrong_files.HEAD_BYTES])
        got = found or f"bytes that begin with {content[:8].hex()}"
        if content.startswith(wrong_files.PNG):
            got = f"one that cannot be decoded ({type(error).__name__})"
        problem = f"the image must be a PNG. Got {got} instead"
        raise DataError(f"{where}: {problem}.") from error
    accepted = f"the image must be {width}x{height} of mode {mode}"
    raise DataError(f"{where}: {accepted}. Got {got} instead.")


def _label(where: str, cell: Any) -> int:
    if isinstance(cell, bool) or not isinstance(cell, int):
        raise DataError(f"{where}: the label must be an integer. Got {cell!r} instead.")
    return cell


def import_extra(name: str) -> Any:
    """A module of the extra `hub`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SourceMissingError(f"{error.name} is not installed") from error
