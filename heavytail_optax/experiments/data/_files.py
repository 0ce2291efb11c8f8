"""Whole files as bytes, with every way to fail as an error that names the file."""

import contextlib
import gzip
import hashlib
import io
import pathlib
import zlib
from typing import IO, cast

from heavytail_optax.experiments.data._contents import GZIP, HEAD_BYTES, content_of
from heavytail_optax.experiments.data._errors import DataError

_MOST_LAYERS = 3  # of gzip around a file; a browser or a server may add one


def read_file(
    path: pathlib.Path,
    expected_bytes: int | None = None,
    expected_start: bytes | None = None,
) -> bytes:
    """The bytes of a file, decompressed if they are gzip's, whatever its name."""
    at_most = -1 if expected_bytes is None else expected_bytes + 1
    try:
        with contextlib.ExitStack() as stack:
            file = cast(IO[bytes], stack.enter_context(path.open("rb")))
            head = _peek(file)
            for _ in range(_MOST_LAYERS):
                if not head.startswith(GZIP):
                    break
                unpacked = stack.enter_context(gzip.GzipFile(mode="rb", fileobj=file))
                file = stack.enter_context(io.BufferedReader(unpacked))
                head = _peek(file)
            if expected_start is None or not head.startswith(expected_start):
                refuse_content(path, head)
            content = file.read(at_most)
    except EOFError as error:
        raise DataError(
            f"{path}: is cut short, as its compression has no end. Download it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: its compression is damaged ({error}). Download it again."
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if expected_bytes is None or len(content) == expected_bytes:
        return content
    accepted = f"{path}: must hold {expected_bytes:,} bytes. Got "
    if len(content) > expected_bytes:
        raise DataError(f"{accepted}more instead, so it is another file.")
    raise DataError(
        f"{accepted}{len(content):,} instead, so it is cut short or another file. "
        "Download it again."
    )


def refuse_content(path: pathlib.Path, head: bytes) -> None:
    """Says what a file is that is plainly not the one which is wanted."""
    content = content_of(head)
    if content is not None:
        raise DataError(f"{path}: is {content.what}. {content.advice}.")


def read_head(path: pathlib.Path) -> bytes:
    """The first bytes of a file, as they are."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error


def check_md5(path: pathlib.Path, content: bytes, expected: str | None) -> None:
    """Checks that a file is the published one.

    MD5 is what the publishers give. It finds damaged files and mistaken ones (MNIST
    under the names of FashionMNIST); it is no proof against an attacker.
    """
    got = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if expected is not None and got != expected:
        raise DataError(
            f"{path}: the MD5 checksum of the published file is {expected}. Got {got} "
            "instead, so the file is damaged or another one."
        )


def _peek(file: IO[bytes]) -> bytes:
    """The first bytes, which are read again afterwards."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return head


def _unreadable(path: pathlib.Path, error: OSError) -> DataError:
    if path.is_symlink() and not path.exists():
        target = path.readlink()
        if "annex/objects" in target.as_posix():
            return DataError(
                f"{path}: is a git-annex link to a file that is not here. Run `git annex "
                f"get {path.name}` in its folder."
            )
        return DataError(f"{path}: is a link to {target}, which is not there.")
    return DataError(f"{path}: cannot be read ({error.strerror}).")
