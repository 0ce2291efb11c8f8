"""Files that are there whole or not at all."""

import contextlib
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a file beside `path` to write, which takes its place when the block is done.

    Args:
      path: of the file; an earlier one stays if the block fails.

    Yields:
      The path to write to.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     path = pathlib.Path(directory) / "table.csv"
      ...     with replacing(path) as partial:
      ...         _ = partial.write_text("seed,accuracy")
      ...     path.read_text()
      'seed,accuracy'
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text in UTF-8.

    Args:
      path: of the file; replaced if it is there.
      text: all of it, with the line ends it shall have.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
