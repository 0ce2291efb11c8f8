"""Options that the laboratory's commands share."""

import contextlib
import dataclasses
import inspect
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from heavytail_optax.experiments.setting_rules import message

_Command = TypeVar("_Command")


def check_range(
    name: str, value: float, accepted: str, low: float, high: float = float("inf")
) -> None:
    """Checks that a number is strictly between two others."""
    if not low < value < high:
        raise ValueError(message(name, accepted, value))


@dataclasses.dataclass(frozen=True)
class NoiseOptions:
    """The noise and its truncation.

    Attributes:
      alpha: Tail index of the noise, between 1 and 2. Its law is that of a random sign
        times Pareto.
      scale: The noise in the gradient is this number times a draw. Smaller is closer to
        the theory's limit and slower.
      max_norm: b, the largest step: the two narrow minima take one such step to leave and
        the two wide ones two, if b is between 0.4497 and 0.6007.
    """

    alpha: float = 1.2
    scale: float = 0.1
    max_norm: float = 0.5

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, "between 1 and 2", 1.0, 2.0)
        check_range("scale", self.scale, "a positive number", 0.0)
        check_range("max_norm", self.max_norm, "a positive number", 0.0)


DEFAULT_NOISE = NoiseOptions()


def parse(command: type[_Command], arguments: Sequence[str], program: str) -> _Command:
    """The command's dataclass from what was typed."""
    import tyro

    about = inspect.getdoc(command) or ""
    return tyro.cli(
        command,
        prog=program,
        args=arguments,
        description=about.partition("Attributes:")[0].rstrip(),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
    )


@contextlib.contextmanager
def warnings_told(note: Callable[[str], None]) -> Iterator[None]:
    """Tells warnings as sentences, without the line of code that they come from.

    Example:
      >>> with warnings_told(print):
      ...     warnings.warn("Take more samples.")
      Take more samples.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(each.message) for each in caught):
        note(text)


def prepare_directory(directory: pathlib.Path) -> None:
    """Makes the directory of the picture, before the work that the picture is of."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise OSError(
            f"No picture can be written to {directory}: {error.strerror}. "
            "Give another --directory."
        ) from None


def save_figure(directory: pathlib.Path, name: str, figure: Any) -> pathlib.Path:
    """Writes a figure as a PNG."""
    from heavytail_optax.experiments.storage.durable_files import replacing

    path = directory / name
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
    return path


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """A table for the terminal: the first column on the left, the others on the right."""
    from rich import box
    from rich.table import Table

    made = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for position, heading in enumerate(headings):
        made.add_column(heading, justify="right" if position else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made
