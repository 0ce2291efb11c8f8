"""Parquet files as the Hugging Face hub has them: PNG images and their labels."""

import importlib
import io
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from heavytail_optax.experiments.data.catalogue import PublishedData, PublishedSplit
from heavytail_optax.experiments.data.dataset import RawSplit
from heavytail_optax.experiments.data.folders import Paths
from heavytail_optax.experiments.data.wrong_files import (
    HEAD_BYTES,
    PARQUET,
    PNG,
    content_of,
    read_head,
    refuse_content,
)
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
    images = np.empty((split.num_images, *data.image_shape), np.uint8)
    labels = np.empty(split.num_images, np.int64)
    done = 0
    for path in paths:
        for row, (image, label) in enumerate(_rows(path, data)):
            if done < split.num_images:
                where = f"{path}: row {row}"
                images[done] = _pixels(where, image, data.image_shape)
                if isinstance(label, bool) or not isinstance(label, int):
                    problem = f"the label must be an integer. Got {label!r} instead"
                    raise DataError(f"{where}: {problem}.")
                labels[done] = label
            done += 1
    if done != split.num_images:
        problem = f"must have {split.num_images:,} rows. Got {done:,} instead"
        raise DataError(f"{', '.join(map(str, paths))}: {problem}.")
    return RawSplit(images, labels)


def _rows(path: pathlib.Path, data: PublishedData) -> Iterator[tuple[Any, Any]]:
    """The image and the label of each row, as they are stored."""
    head = read_head(path)
    if not head.startswith(PARQUET):
        refuse_content(path, head)
        raise DataError(f"{path}: is no Parquet file. Download it again.")
    parquet = import_extra("pyarrow.parquet")
    columns = [data.hub.image_column, data.hub.label_column]
    try:
        with parquet.ParquetFile(path) as file:
            found = file.schema_arrow.names
            if set(columns) <= set(found):
                for batch in file.iter_batches(1000, columns=columns):
                    cells = (batch.column(name).to_pylist() for name in columns)
                    yield from zip(*cells, strict=True)
    except Exception as error:  # of a damaged file Arrow raises all kinds
        problem = f"is cut short or damaged ({type(error).__name__}: {error})"
        raise DataError(f"{path}: {problem}. Download it again.") from error
    if not set(columns) <= set(found):
        accepted = f"must have the columns {' and '.join(columns)}"
        raise DataError(f"{path}: {accepted}. Got {', '.join(found)} instead.")


def _pixels(where: str, cell: Any, image_shape: tuple[int, int, int]) -> np.ndarray:
    """The pixels of a PNG, which is decoded as nothing else."""
    content = cell.get("bytes") if isinstance(cell, Mapping) else None
    if not isinstance(content, bytes):
        raise DataError(f"{where}: the image must be stored as the bytes of a PNG.")
    pillow = import_extra("PIL.Image")
    try:
        with pillow.open(io.BytesIO(content), formats=("PNG",)) as image:
            mode, size, pixels = image.mode, image.size, np.asarray(image)
    except Exception as error:  # of a damaged image Pillow raises all kinds
        got = content_of(content[:HEAD_BYTES]) or f"bytes {content[:8].hex()}..."
        if content.startswith(PNG):
            got = f"one that cannot be decoded ({type(error).__name__})"
        problem = f"the image must be a PNG. Got {got} instead"
        raise DataError(f"{where}: {problem}.") from error
    height, width, channels = image_shape
    if (mode, size) != ({1: "L", 3: "RGB"}[channels], (width, height)):
        accepted = f"the image must be {width}x{height} with {channels} channels"
        got = f"{size[0]}x{size[1]} of mode {mode}"
        raise DataError(f"{where}: {accepted}. Got {got} instead.")
    return pixels.reshape(image_shape)


def import_extra(name: str) -> Any:
    """A module of the extra `hub`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SourceMissingError(f"{error.name} is not installed") from error
