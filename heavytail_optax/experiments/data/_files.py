"""Whole files as bytes, with every way to fail as an error that names the file."""

import gzip
import hashlib
import pathlib
import zlib

from heavytail_optax.experiments.data._errors import DataError


def read_file(path: pathlib.Path, expected_bytes: int | None = None) -> bytes:
    """The bytes of a file, decompressed if its name ends with .gz.

    Args:
      path: of the file.
      expected_bytes: how many there must be, after decompression; by default any
        number. No more than one byte more is ever decompressed.

    Raises:
      DataError: if the file cannot be read, its compression is damaged, or it is too
        short or too long.
    """
    at_most = -1 if expected_bytes is None else expected_bytes + 1
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(at_most)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged, or no gzip file ({error}).") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    if expected_bytes is not None and len(content) != expected_bytes:
        what = "more" if len(content) > expected_bytes else f"{len(content):,}"
        raise DataError(
            f"{path}: must hold {expected_bytes:,} bytes. Got {what} instead, so the "
            "file is truncated or another one."
        )
    return content


def check_md5(path: pathlib.Path, content: bytes, expected: str | None) -> None:
    """Checks that a file is the published one.

    MD5 is what the publishers give. It finds damaged files and mistaken ones (MNIST
    under the names of FashionMNIST); it is no proof against an attacker.

    Args:
      path: of the file, for the message.
      content: of the file.
      expected: hexadecimal, or None if it is not known.

    Raises:
      DataError: if the checksum is another one.
    """
    got = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if expected is not None and got != expected:
        raise DataError(
            f"{path}: the MD5 checksum of the published file is {expected}. Got {got} "
            "instead, so the file is damaged or another one."
        )
