"""What a file holds, told from its first bytes and not from its name."""

from typing import NamedTuple

HEAD_BYTES = 512
"""As many of the first bytes as `content_of` looks at."""

GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"
_AGAIN = "Download the file again"


class Content(NamedTuple):
    """What a file holds in words, and what to do if that is not wanted."""

    what: str
    advice: str


_POINTERS = (
    (
        b"version https://git-lfs.github.com/spec/",
        Content(
            "a Git LFS pointer, not the file that it stands for",
            "Run `git lfs pull` in its folder",
        ),
    ),
    (
        b"annex/objects/",
        Content(
            "a git-annex pointer, not the file that it stands for",
            "Run `git annex get .` in its folder",
        ),
    ),
)
_WEB_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")
_UNPACK = "Unpack it"
_FORMATS = (
    (b"PK\x03\x04", "a ZIP archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (GZIP, "compressed by gzip", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed by lz4", _UNPACK),
    (PARQUET, "a Parquet file", "Give it the name that it has on the hub"),
    (b"ARROW1", "an Arrow file", "Take the Parquet files of the hub"),
    (b"MATLAB 7.3", "a MATLAB file of version 7.3", "Take the published one"),
    (b"MATLAB 5.0", "a MATLAB file", "Take the published file"),
    (b"\x89HDF", "an HDF5 file", "Take the published file"),
    (b"\x93NUMPY", "a NumPy file", "Take the published file"),
    (b"\x89PNG", "a PNG image", "Take the published file"),
    (b"\xff\xd8\xff", "a JPEG image", "Take the published file"),
    (b"GIF8", "a GIF image", "Take the published file"),
    (b"RIFF", "a WebP image", "Take the published file"),
    (b"II*\x00", "a TIFF image", "Take the published file"),
    (b"MM\x00*", "a TIFF image", "Take the published file"),
    (b"BM", "a BMP image", "Take the published file"),
    (b"%PDF", "a PDF document", _AGAIN),
)
_PICKLE_PROTOCOLS = (2, 3, 4, 5)


def content_of(head: bytes) -> Content | None:
    """What begins with these bytes; None if it is not known.

    Nothing that is known is the start of an IDX file or of CIFAR's binary files, whose
    first byte is 0 or a label.

    Example:
      >>> content_of(b"<!DOCTYPE html><title>Not found</title>").what
      'a web page, perhaps of an error'
    """
    if not head:
        return Content("empty", _AGAIN)
    is_short = len(head) < HEAD_BYTES
    for mark, pointer in _POINTERS:
        if is_short and mark in head:
            return pointer
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_WEB_PAGES):
        return Content("a web page, perhaps of an error", _AGAIN)
    for mark, what, advice in _FORMATS:
        if head.startswith(mark):
            return Content(what, advice)
    if head[257:262] == b"ustar":
        return Content("a tar archive", _UNPACK)
    if head[0] == 0x80 and head[1:2] and head[1] in _PICKLE_PROTOCOLS:
        return Content("a pickle, which is never loaded", "Take the published file")
    if is_short and (text := _text(head)):
        return Content(f"a text, {text!r}", _AGAIN)
    return None


def _text(head: bytes) -> str:
    """The first words, if these bytes are a text."""
    try:
        text = head.decode()
    except UnicodeDecodeError:
        return ""
    words = " ".join(text.split())
    return words[:60] if words.isprintable() else ""
