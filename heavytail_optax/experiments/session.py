"""What a command opens before it works and closes after: devices, progress, signals."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console

from heavytail_optax.experiments.interrupts import StopRequest
from heavytail_optax.experiments.progress import LiveProgress, PlainProgress


class Session(NamedTuple):
    """Open while a command works."""

    console: Console
    progress: LiveProgress | PlainProgress
    stop: StopRequest


@contextlib.contextmanager
def open_session(console: Console, steps: int) -> Iterator[Session]:
    """Notes Ctrl-C and SIGTERM, and shows progress on the console.

    Args:
      console: a terminal, a pipe or a file.
      steps: of each run.

    Yields:
      The session.
    """

    def notify() -> None:
        console.show_cursor()
        console.print("Stopping after these steps. Ctrl-C again quits at once.")

    progress_type = LiveProgress if console.is_terminal else PlainProgress
    with StopRequest(notify) as stop, progress_type(console, steps) as progress:
        yield Session(console, progress, stop)
