"""Decoded images that are kept for the next run: whole ones, or none."""

import contextlib
import hashlib
import os
import pathlib
import uuid
from collections.abc import Sequence

import numpy as np

from ..durable_files import replacing
from ..user_cache import user_cache
from .image_folders import ImageFile, encoded

MOST_BYTES = 4 * 2**30
"""Of all images that are kept; those that were not used for longest go."""


def kept_place(
    root: pathlib.Path, files: Sequence[ImageFile], settings: str
) -> pathlib.Path | None:
    """A name that says of which files with which sizes and times; first of which folder."""
    directory = user_cache("images")
    if directory is None:
        return None
    # With the folder of the split: train and test may be exchanged.
    listing = [
        f"{os.path.relpath(file.path, root)}\0{file.size}\0{file.times}"
        for file in files
    ]
    where, what = (
        hashlib.sha256(encoded(text)).hexdigest()[:32]
        for text in (f"{root.absolute()}\0{settings}", "\0".join([settings, *listing]))
    )
    return directory / f"{where}-{what}.npy"


def kept_images(place: pathlib.Path) -> np.ndarray | None:
    """What `keep_images` wrote; None if there is nothing, or it is damaged."""
    try:
        with place.open("rb") as file:
            images = np.lib.format.read_array(file, allow_pickle=False)
            if file.read() != _checksum(images):
                return None
        os.utime(place)  # It has been used now.
    # A damaged file raises all kinds, and what is not there can be decoded again.
    except Exception:  # noqa: BLE001
        return None
    return images


def keep_images(
    place: pathlib.Path, images: np.ndarray, most_bytes: int = MOST_BYTES
) -> None:
    """Writes them with their checksum, and drops what is too much or out of date.

    A run does without, where there is no room or no right to write.
    """
    if images.nbytes > most_bytes:
        return
    where = place.name.partition("-")[0]
    # Two processes may write at once, each a file of its own.
    partial = place.with_name(f"{where}-{uuid.uuid4().hex}.partial")
    with contextlib.suppress(OSError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(place, partial), partial.open("wb") as file:
            np.lib.format.write_array(file, images, allow_pickle=False)
            file.write(_checksum(images))
        _drop(place, where, most_bytes)


def _drop(place: pathlib.Path, where: str, most_bytes: int) -> None:
    """What the folder had before, what a kill has left, and what is over the limit."""
    others = [(each.stat(), each) for each in place.parent.iterdir() if each != place]
    left = most_bytes - place.stat().st_size
    for status, other in sorted(others, key=lambda each: -each[0].st_mtime_ns):
        left -= status.st_size
        if other.name.startswith(f"{where}-") or left < 0:
            left += status.st_size
            other.unlink(missing_ok=True)


def _checksum(images: np.ndarray) -> bytes:
    checksum = hashlib.sha256(f"{images.dtype} {images.shape}".encode())
    checksum.update(np.ascontiguousarray(images))
    return checksum.digest()
