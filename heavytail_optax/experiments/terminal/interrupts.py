"""Ctrl-C and SIGTERM as a wish to stop, granted when the work in hand is saved."""

import contextlib
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Self


class StopRequest:
    """Notes the first signal, in the main thread; a second one ends the process."""

    def __init__(
        self,
        notify: Callable[[], None],
        signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM),
    ) -> None:
        self._notify = notify
        self._signals = signals
        self._signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in self._signals:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signal = number
        # The system's own handler, as ours would wait for the compiled code to return.
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        # Python refuses to write while the write that was interrupted is under way.
        with contextlib.suppress(RuntimeError):
            self._notify()

    def is_set(self) -> bool:
        """Whether a signal has come."""
        return self._signal is not None

    @property
    def signal(self) -> int | None:
        """The number of the signal that has come."""
        return self._signal

    @property
    def exit_status(self) -> int:
        """The shell's convention: 130 after Ctrl-C, 143 after SIGTERM, 0 after none."""
        return 0 if self._signal is None else 128 + self._signal
