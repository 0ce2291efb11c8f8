"""What a command opens before it works and closes after: devices, progress, signals."""

import contextlib
import signal
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console

from heavytail_optax.experiments.terminal.interrupts import StopRequest
from heavytail_optax.experiments.terminal.progress import LiveProgress, PlainProgress


class Session(NamedTuple):
    """Open while a command works."""

    console: Console
    progress: LiveProgress | PlainProgress
    stop: StopRequest


@contextlib.contextmanager
def open_session(
    console: Console,
    steps: int,
    keep_bars: bool = True,
    on_stop: str = "Stopping after these steps.",
    signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM),
) -> Iterator[Session]:
    """Notes Ctrl-C and SIGTERM, and shows progress on the console."""

    def notify() -> None:
        console.show_cursor()
        console.print(f"{on_stop} Ctrl-C again quits at once.")

    progress_type = LiveProgress if console.is_terminal else PlainProgress
    with (
        StopRequest(notify, signals) as stop,
        progress_type(console, steps, keep_bars) as progress,
    ):
        yield Session(console, progress, stop)
