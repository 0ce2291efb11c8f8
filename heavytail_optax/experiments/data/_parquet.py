"""Rows of images and labels as the Hugging Face hub stores them, through `datasets`."""

import io
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heavytail_optax.experiments.data._arrays import Arrays
from heavytail_optax.experiments.data._catalogue import (
    HubRepository,
    PublishedData,
    PublishedSplit,
)
from heavytail_optax.experiments.data._errors import DataError, SourceMissingError

if TYPE_CHECKING:
    import datasets


def open_hub(hub: HubRepository, split: str) -> "datasets.Dataset":
    """A split from the hub, or from the cache of an earlier time.

    The first time, `datasets` downloads all splits, also SVHN's 531,131 extra images.

    Args:
      hub: the repository.
      split: "train" or "test".

    Raises:
      SourceMissingError: if `datasets` is not installed, or there is no way to the hub.
    """
    datasets = _import_datasets()
    try:
        return datasets.load_dataset(hub.name, hub.config, split=split)
    except Exception as error:  # no network, no disk, no such repository, ...
        reason = str(error) or type(error).__name__
        raise SourceMissingError(f"{hub.name} could not be loaded: {reason}") from error


def read_rows(
    rows: "datasets.Dataset | datasets.IterableDataset",
    where: str,
    hub: HubRepository,
    image_shape: tuple[int, int, int],
    num_images: int,
) -> Arrays:
    """Decodes all images.

    Args:
      rows: each has an image, PNG bytes beside a path that is not followed, and its
        label.
      where: names the files or the repository, for messages.
      hub: the names of the two columns.
      image_shape: (height, width, channels).
      num_images: that there must be.

    Raises:
      DataError: if the rows are not what they must be.
    """
    import datasets

    columns = [hub.image_column, hub.label_column]
    found = rows.column_names or []
    if not set(columns) <= set(found):
        raise DataError(
            f"{where}: must have the columns {' and '.join(columns)}. "
            f"Got {', '.join(found) or 'none'} instead."
        )
    images = np.empty((num_images, *image_shape), np.uint8)
    labels = np.empty(num_images, np.int64)
    done = 0
    try:
        rows = rows.select_columns(columns)
        if isinstance(rows.features[hub.image_column], datasets.Image):
            # Left as bytes here, to be decoded as PNG and as nothing else.
            undecoded = datasets.Image(decode=False)
            rows = rows.cast_column(hub.image_column, undecoded)
        for row in rows:
            if done < num_images:
                place = f"{where}: row {done}"
                images[done] = _pixels(place, row[hub.image_column], image_shape)
                labels[done] = _label(place, row[hub.label_column])
            done += 1
    except DataError:
        raise
    except Exception as error:  # of damaged data Arrow raises all kinds
        raise DataError(
            f"{where}: damaged after row {done} ({type(error).__name__}: {error})."
        ) from error
    if done != num_images:
        raise DataError(
            f"{where}: must have {num_images:,} rows. Got {done:,} instead."
        )
    return Arrays(images, labels)


def find_parquet_files(
    root: pathlib.Path, folders: Sequence[str]
) -> tuple[tuple[pathlib.Path, ...], tuple[pathlib.Path, ...]] | None:
    """The files train*.parquet and test*.parquet of the first folder that has any.

    Args:
      root: directory that the folders are in.
      folders: relative to it.

    Raises:
      DataError: if there are some of one split and none of the other.
    """
    for folder in folders:
        splits = {
            name: tuple(sorted((root / folder).glob(f"{name}*.parquet")))
            for name in ("train", "test")
        }
        missing = [name for name, paths in splits.items() if not paths]
        if len(missing) == 1:
            (found,) = (paths for paths in splits.values() if paths)
            problem = f"beside it, {missing[0]}*.parquet is missing"
            raise DataError(f"{found[0]}: {problem}.")
        if not missing:
            return splits["train"], splits["test"]
    return None


def read_parquet_files(
    data: PublishedData, split: PublishedSplit, paths: Sequence[pathlib.Path]
) -> Arrays:
    """Reads the files of one split.

    Args:
      data: whose files.
      split: which of its two.
      paths: of the files, in order.

    Raises:
      DataError: naming the files, if they are not what they must be.
      SourceMissingError: if `datasets` is not installed.
    """
    rows, where = _open_files(paths), _names(paths)
    return read_rows(rows, where, data.hub, data.image_shape, split.num_images)


def _import_datasets() -> Any:
    try:
        import datasets
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise SourceMissingError(f"{error.name} is not installed") from error
    return datasets


def _open_files(paths: Sequence[pathlib.Path]) -> "datasets.IterableDataset":
    datasets = _import_datasets()
    files = [str(path) for path in paths]
    try:
        # Streamed, so that the user's cache gets no second copy.
        with tempfile.TemporaryDirectory() as cache:
            return datasets.load_dataset(
                "parquet",
                data_files={"rows": files},
                split="rows",
                streaming=True,
                cache_dir=cache,
            )
    except Exception as error:  # of a damaged file Arrow raises all kinds
        problem = f"cannot be read as parquet ({type(error).__name__}: {error})"
        raise DataError(f"{_names(paths)}: {problem}.") from error


def _names(paths: Sequence[pathlib.Path]) -> str:
    return ", ".join(str(path) for path in paths)


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
        problem = f"{type(error).__name__}: {error}"
        raise DataError(f"{place}: the image cannot be decoded ({problem}).") from error


def _label(place: str, cell: Any) -> int:
    if isinstance(cell, bool) or not isinstance(cell, int):
        raise DataError(f"{place}: the label must be an integer. Got {cell!r} instead.")
    return cell
