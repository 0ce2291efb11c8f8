"""Images from their files: checked, decoded in parallel, and kept for the next run."""

import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps

from ..errors import USAGE, DataError
from ..files import replacing, user_cache
from . import data_files
from .dataset import RawDataset, RawSplit
from .image_folders import ImageFile, ImageFolder, encoded

MOST_PIXELS = 2**26
"""Of one image: about what a good camera takes. More may be a file made to fill memory.

Also of all that are decoded at the same time: at most 20 bytes for each of them.
"""

Tick = Callable[[int, int], object]  # given the number done, and of all; may raise

ReadImages = Callable[..., RawDataset]  # `read_images`, some arguments given

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_IMAGES = ("a PNG", "a JPEG", "a WebP", "a BMP")  # in the words of `content_of`
_ORIENTATION = 0x0112  # of EXIF: from 5 on, width and height are exchanged
_CHUNK = 256
_SECONDS_BETWEEN_TICKS = 0.2
_MODES = {1: "L", 3: "RGB"}


class _Header(NamedTuple):
    height: int
    width: int
    channels: int  # 1 of a grey image, else 3


class PixelLimit:
    """Lets threads go on while the pixels that they have at the same time are few enough."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def room_for(self, pixels: int) -> Iterator[None]:
        """Waits until there is room; what is larger than all of it goes alone."""
        taken = min(pixels, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= taken)
            self._left -= taken
        try:
            yield
        finally:
            with self._changed:
                self._left += taken
                self._changed.notify_all()


def no_tick(done: int, total: int) -> None:
    """Shows nothing."""


def read_images(
    found: ImageFolder,
    image_size: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    tick: Tick = no_tick,
    is_kept: bool = True,
) -> RawDataset:
    """Both splits, from the files or what an earlier run decoded and kept.

    With `image_size`, each image is resized to it, with a black margin if it is not
    square. Else all must have the size in `image_shape`, or the same one. They are grey if
    that says so, or if all are.
    """
    files, number = [*found.train, *found.test], len(found.train)
    wanted = f"{image_size} {image_shape} {PIL.__version__}"
    place = kept_place(found.root, files, wanted) if is_kept else None
    images = kept_images(place) if place else None
    if images is None:
        images = _decode(found.root, files, image_size, image_shape, tick)
        if place:
            keep_images(place, images)
    labels = found.labels(files)
    return RawDataset(
        RawSplit(images[:number], labels[:number]),
        RawSplit(images[number:], labels[number:]),
        "folder of images",
        (),
        found.class_names,
    )


def _decode(
    root: pathlib.Path,
    files: Sequence[ImageFile],
    image_size: int | None,
    image_shape: tuple[int, int, int] | None,
    tick: Tick,
) -> np.ndarray:
    problems: list[str] = []
    is_enough = lambda: len(problems) > data_files.MOST_NAMED

    def header_of(file: ImageFile) -> _Header | None:
        try:
            return None if is_enough() else _header(file.path)
        except DataError as error:
            problems.append(str(error))
            return None

    headers = _in_parallel(header_of, files, lambda done: tick(0, len(files)))
    data_files.refuse_all(sorted(problems))
    height, width, channels = image_shape or headers[0]
    for file, header in zip(files, headers, strict=True):
        if image_size is None and header[:2] != (height, width):
            others = "those of the published data set are"
            if image_shape is None:
                others = f"{files[0].path} is"
            raise DataError(
                f"{file.path}: is {header.width}x{header.height}, and {others} "
                f"{width}x{height}. Give --data folder and an --image-size, to which "
                "all are resized.",
                exit_status=USAGE if image_shape is None else 1,
            )
    if image_shape is None:
        channels = max(header.channels for header in headers)
    shape = len(files), image_size or height, image_size or width, channels
    try:
        images = np.empty(shape, np.uint8)
    except MemoryError as error:
        problem = f"its {len(files):,} images of {shape[2]}x{shape[1]} do not fit"
        advice = "into memory. Give a smaller --image-size"
        raise DataError(f"{root}: {problem} {advice}.", exit_status=USAGE) from error
    limit = PixelLimit(MOST_PIXELS)

    def decode(number: int) -> None:
        header = headers[number]
        if is_enough():
            return
        with limit.room_for(header.height * header.width):
            try:
                images[number] = _pixels(files[number].path, shape[1:], image_size)
            except DataError as error:
                problems.append(str(error))

    _in_parallel(decode, range(len(files)), lambda done: tick(done, len(files)))
    data_files.refuse_all(sorted(problems))
    return images


def _in_parallel(
    function: Callable[[Any], Any], items: Sequence[Any], tick: Callable[[int], object]
) -> list[Any]:
    """The results for all items, computed by threads; ends when the tick raises.

    Reading and decompressing lets other threads work; Pillow's own code is short.
    """
    results: list[Any] = []
    is_stopped = threading.Event()

    def compute(part: Sequence[Any]) -> list[Any]:
        return [function(item) for item in part if not is_stopped.is_set()]

    parts = [items[first : first + _CHUNK] for first in range(0, len(items), _CHUNK)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(compute, part) for part in parts]
        try:
            for future in futures:
                while not concurrent.futures.wait(
                    [future], _SECONDS_BETWEEN_TICKS
                ).done:
                    tick(len(results))
                results += future.result()
                tick(len(results))
        # After an error: what has not begun must not be waited for.
        finally:
            is_stopped.set()
            pool.shutdown(cancel_futures=True)
    return results


def _header(path: str) -> _Header:
    with _opened(path) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise _too_large(path, f"{width}x{height}")
        if _orientation(image) >= 5:
            width, height = height, width
        return _Header(height, width, 1 if _is_grey(image.mode) else 3)


def _pixels(
    path: str, shape: tuple[int, int, int], image_size: int | None
) -> np.ndarray:
    """An image as it is looked at: turned upright, transparent on black, resized."""
    height, width, channels = shape
    with _opened(path) as image:
        if _orientation(image) != 1:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            layers = image.convert("RGBA")
            image = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image.alpha_composite(layers)
        if image.mode != _MODES[channels]:
            image = image.convert(_MODES[channels])
        if image_size is not None and image.size != (width, height):
            image = ImageOps.pad(image, (width, height))
        return np.asarray(image).reshape(shape)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """The image in a file, decoded when its pixels are asked for."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            yield image
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path, "many more") from error
    except Exception as error:  # of a damaged image Pillow raises all kinds
        if isinstance(error, OSError) and error.filename is not None:
            raise data_files.unreadable(pathlib.Path(path), error) from error
        found = data_files.content_of(_head(path)) or "no image"
        if found.startswith(_IMAGES):
            found = f"damaged or cut short ({type(error).__name__}: {error})"
        advice = "Replace it by an image, or move it away"
        raise DataError(f"{path}: is {found}. {advice}.") from error


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return data_files.peek(file)


def _too_large(path: str, got: str) -> DataError:
    accepted = f"an image may have {MOST_PIXELS:,} pixels"
    advice = "Make it smaller, or move it away"
    return DataError(f"{path}: {accepted}. Got {got} instead. {advice}.")


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(_ORIENTATION, 1) if "exif" in image.info else 1


def _is_grey(mode: str) -> bool:
    return mode in ("1", "L", "LA", "La", "F") or mode.startswith("I")


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
