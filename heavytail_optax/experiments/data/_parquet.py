"""Rows of images and labels as the Hugging Face hub stores them, through `datasets`."""

import io
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heavytail_optax.experiments.data._arrays import Arrays
from heavytail_optax.experiments.data._catalogue import (
    HubRepository,
    PublishedData,
    PublishedSplit,
)
from heavytail_optax.experiments.data._contents import HEAD_BYTES, PARQUET, content_of
from heavytail_optax.experiments.data._errors import DataError, SourceMissingError
from heavytail_optax.experiments.data._files import read_head, refuse_content
from heavytail_optax.experiments.data._folders import (
    files_in,
    is_parquet,
    unfinished_downloads,
)

if TYPE_CHECKING:
    import datasets


_PNG = b"\x89PNG"


def open_hub(hub: HubRepository, split: str) -> "datasets.Dataset":
    """A split from the hub, or from the cache of an earlier time.

    The first time, `datasets` downloads all splits, also SVHN's 531,131 extra images.
    """
    datasets = _import_datasets()
    try:
        return datasets.load_dataset(hub.name, hub.config, split=split)
    except Exception as error:  # no network, no disk, no such repository, ...
        reason = str(error) or type(error).__name__
        raise SourceMissingError(f"{hub.name} could not be loaded: {reason}") from error


def read_rows(
    pieces: "Sequence[tuple[str, datasets.Dataset | datasets.IterableDataset]]",
    hub: HubRepository,
    image_shape: tuple[int, int, int],
    num_images: int,
) -> Arrays:
    """Decodes all images of one or several files, one after the other."""
    images = np.empty((num_images, *image_shape), np.uint8)
    labels = np.empty(num_images, np.int64)
    done = 0
    for where, rows in pieces:
        for place, row in _rows_of(where, rows, hub):
            if done < num_images:
                images[done] = _pixels(place, row[hub.image_column], image_shape)
                labels[done] = _label(place, row[hub.label_column])
            done += 1
    if done != num_images:
        names = ", ".join(where for where, _ in pieces)
        raise DataError(
            f"{names}: must have {num_images:,} rows. Got {done:,} instead."
        )
    return Arrays(images, labels)


def _rows_of(
    where: str,
    rows: "datasets.Dataset | datasets.IterableDataset",
    hub: HubRepository,
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with its place in words."""
    import datasets

    columns = [hub.image_column, hub.label_column]
    found = rows.column_names or []
    if not set(columns) <= set(found):
        raise DataError(
            f"{where}: must have the columns {' and '.join(columns)}. "
            f"Got {', '.join(found) or 'none'} instead."
        )
    number = 0
    try:
        rows = rows.select_columns(columns)
        if isinstance(rows.features[hub.image_column], datasets.Image):
            # Left as bytes here, to be decoded as PNG and as nothing else.
            undecoded = datasets.Image(decode=False)
            rows = rows.cast_column(hub.image_column, undecoded)
        for row in rows:
            yield f"{where}: row {number}", row
            number += 1
    except Exception as error:  # of damaged data Arrow raises all kinds
        raise DataError(
            f"{where}: damaged after row {number} ({type(error).__name__}: {error})."
        ) from error


def find_parquet_files(
    root: pathlib.Path, folders: Sequence[str]
) -> tuple[tuple[pathlib.Path, ...], tuple[pathlib.Path, ...]] | None:
    """The files train*.parquet and test*.parquet of the first folder that has any."""
    for folder in folders:
        there = files_in(root / folder)
        splits = {
            name: tuple(path for path in there if is_parquet(path.name, name))
            for name in ("train", "test")
        }
        missing = [name for name, paths in splits.items() if not paths]
        if len(missing) == 1:
            (found,) = (paths for paths in splits.values() if paths)
            problem = f"{found[0]}: beside it, {missing[0]}*.parquet is missing."
            problem += "".join(
                f" {path.name} is an unfinished download."
                for path in unfinished_downloads(there, ())
            )
            raise DataError(problem)
        if not missing:
            for paths in splits.values():
                _check_pieces(paths)
            return splits["train"], splits["test"]
    return None


def read_parquet_files(
    data: PublishedData, split: PublishedSplit, paths: Sequence[pathlib.Path]
) -> Arrays:
    """Reads the files of one split."""
    for path in paths:
        _check_is_parquet(path)
    pieces = [(str(path), _open_file(path)) for path in paths]
    return read_rows(pieces, data.hub, data.image_shape, split.num_images)


def _check_pieces(paths: Sequence[pathlib.Path]) -> None:
    """Names like train-00000-of-00002.parquet say how many there must be."""
    numbers = [re.search(r"-(\d+)-of-(\d+)\.", path.name.lower()) for path in paths]
    there = {int(number[1]) for number in numbers if number}
    wanted = max((int(number[2]) for number in numbers if number), default=0)
    for number in range(wanted):
        if number not in there:
            raise DataError(
                f"{paths[0]}: there must be {wanted} such files, numbered from 0. Number "
                f"{number} is missing beside it."
            )


def _check_is_parquet(path: pathlib.Path) -> None:
    head = read_head(path)
    if not head.startswith(PARQUET):
        refuse_content(path, head)
        raise DataError(f"{path}: is no Parquet file. Download it again.")
    with path.open("rb") as file:
        file.seek(-len(PARQUET), io.SEEK_END)
        if file.read() != PARQUET:
            raise DataError(f"{path}: is cut short. Download it again.")


def _import_datasets() -> Any:
    try:
        import datasets
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise SourceMissingError(f"{error.name} is not installed") from error
    return datasets


def _open_file(path: pathlib.Path) -> "datasets.IterableDataset":
    datasets = _import_datasets()
    try:
        # Streamed, so that the user's cache gets no second copy.
        with tempfile.TemporaryDirectory() as cache:
            return datasets.load_dataset(
                "parquet",
                data_files={"rows": [str(path)]},
                split="rows",
                streaming=True,
                cache_dir=cache,
            )
    except Exception as error:  # of a damaged file Arrow raises all kinds
        problem = f"cannot be read as parquet ({type(error).__name__}: {error})"
        raise DataError(f"{path}: {problem}.") from error


def _pixels(place: str, cell: Any, image_shape: tuple[int, int, int]) -> np.ndarray:
    from PIL import Image

    height, width, channels = image_shape
    mode = {1: "L", 3: "RGB"}[channels]
    content = cell.get("bytes") if isinstance(cell, Mapping) else None
    if not isinstance(content, bytes):
        raise DataError(f"{place}: the image must be stored as the bytes of a PNG.")
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if (image.mode, image.size) != (mode, (width, height)):
                raise DataError(
                    f"{place}: the image must be {width}x{height} of mode {mode}. "
                    f"Got {image.width}x{image.height} of mode {image.mode} instead."
                )
            return np.asarray(image).reshape(image_shape)
    except DataError:
        raise
    except Exception as error:  # of a damaged image Pillow raises all kinds
        problem = f"{place}: the image must be a PNG."
        found = content_of(content[:HEAD_BYTES])
        if content.startswith(_PNG):
            damage = type(error).__name__
            problem += f" Got one that cannot be decoded instead ({damage})."
        elif found is not None:
            problem += f" Got {found.what} instead."
        else:
            problem += f" Got bytes that begin with {content[:8].hex()} instead."
        raise DataError(problem) from error


def _label(place: str, cell: Any) -> int:
    if isinstance(cell, bool) or not isinstance(cell, int):
        raise DataError(f"{place}: the label must be an integer. Got {cell!r} instead.")
    return cell
