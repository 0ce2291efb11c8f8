"""What the user sees while a command works, and how it is stopped."""

import contextlib
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import FrameType
from typing import Any, Self

from rich import progress as rich_progress
from rich.console import Console

from .errors import StoppedError
from .training.trainer import Chunk, Metrics

_LINES = 10
_WIDTH_OF_ONE_LINE = 116
_SECONDS_BETWEEN_LINES = 15.0
_CANCELLED = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Notes the first signal; a second one ends the process.

    Python runs a signal's handler only between two lines of the main thread, which may
    be minutes later if XLA compiles. So a thread of its own reads the numbers of the
    signals, which the system's handler writes at once.
    """

    def __init__(
        self, notify: Callable[[], None], signals: Sequence[int] = _CANCELLED
    ) -> None:
        self._notify = notify
        self._signals = signals
        self.signal: int | None = None  # the number of the signal that has come
        self._before: dict[int, Any] = {}
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Self:
        reader, writer = socket.socketpair()
        self._opened.enter_context(reader)
        thread = threading.Thread(target=self._listen, args=(reader,), daemon=True)
        thread.start()
        self._opened.callback(thread.join)
        self._opened.enter_context(writer)  # closed first, which ends the thread
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._opened.callback(signal.set_wakeup_fd, before)
        for number in self._signals:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._opened.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """In the main thread: the next signal ends the process by the system's handler."""
        del frame
        self.signal = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)

    def _listen(self, reader: socket.socket) -> None:
        is_first = True
        while received := reader.recv(1):
            number = received[0]
            if number not in self._signals:
                continue
            if not is_first:  # and the main thread has not come to its handler
                os._exit(128 + number)
            is_first = False
            self.signal = number
            self._notify()

    def is_set(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def exit_status(self) -> int:
        """The shell's convention: 130 after Ctrl-C, 143 after SIGTERM, 0 after none."""
        return 0 if self.signal is None else 128 + self.signal


class Progress:
    """The progress of runs, and `stop`: whether Ctrl-C or SIGTERM has come."""

    def __init__(
        self,
        console: Console,
        on_stop: str = "Stopping after these steps.",
        signals: Sequence[int] = _CANCELLED,
    ) -> None:
        def notify() -> None:
            console.show_cursor()
            console.print(f"{on_stop} Ctrl-C again quits at once.")

        self.console = console
        self.stop = StopRequest(notify, signals)
        self._bars = rich_progress.Progress(
            *_columns(console.width), console=console, disable=not console.is_terminal
        )
        self._bar = self._bars.add_task("", visible=False, report="")
        self._overall = self._bars.add_task("all runs", visible=False, report="")
        self._opened = contextlib.ExitStack()
        self._work: dict[str, float] = {}  # of each run, in a unit of its own
        self._done: set[str] = set()
        self._work_before = 0.0
        self._shown_at = self._began_at = time.monotonic()
        self._shown_step = self._steps = 0

    def __enter__(self) -> Self:
        self._opened.enter_context(self.stop)
        self._opened.enter_context(self._bars)
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def note(self, text: str) -> None:
        """Shows a line, above the bars."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def plan(self, work: Mapping[str, float], done: Collection[str]) -> None:
        """All runs by their labels, each with how much work it is, and those done."""
        self._work, self._done = dict(work), set(done)
        self._work_before, self._began_at = self._work_done(), time.monotonic()
        self._show_overall(is_due=True)

    def done(self, *labels: str) -> None:
        """Runs are done, by this process or by another one."""
        is_new = not self._done.issuperset(labels)
        self._done.update(labels)
        self._show_overall(is_due=is_new)

    def reading(self, done: int, total: int) -> None:
        """So many images are decoded, of how many; raises if that is to stop."""
        if self.stop.is_set():
            problem = "Stopped while images were decoded."
            raise StoppedError(problem, exit_status=self.stop.exit_status)
        report = f"{done:,} of {total:,} images decoded"
        self._show("data", report, done, total, is_due=self._is_late())

    def start(self, label: str, steps: int, step: int) -> None:
        """A run starts, or goes on from a step."""
        self._shown_step, self._steps = step, steps
        # What was done before says nothing about the speed.
        self._work_before += self._work.get(label, 0.0) * self._shown_step / steps
        is_done = self._shown_step == steps
        total = steps if is_done else None
        report = "already done" if is_done else "compiling"
        self._show(label, report, self._shown_step, total, is_due=True)

    def advance(self, label: str, chunk: Chunk, metrics: Metrics | None) -> None:
        """Steps are done; `metrics` are the latest."""
        report = describe(chunk, metrics, self._steps)
        is_last = chunk.step == self._steps
        is_due = (
            is_last
            or chunk.step - self._shown_step >= self._steps / _LINES
            or self._is_late()
        )
        self._show(label, report, chunk.step, self._steps, is_due)
        if is_due:
            self._shown_step = chunk.step
        if is_last and self.console.is_terminal:
            self.note(f"{self._numbered(label)}  {report}")
        self._show_overall(label, chunk.seconds_left, is_due=False)

    def measuring(self, label: str, measure: str, done: int, total: int) -> bool:
        """So many parts of a measure are done, of how many; True if it is to stop."""
        if self.stop.is_set():
            return True
        parts = measure if total == 1 else f"{measure}: {done} of {total}"
        name = parts if done else measure
        is_due = done == 0 or (done < total and self._is_late())
        # A measure without parts pulses.
        shown = None if (done, total) == (0, 1) else total
        self._show(label, f"measuring {name}", done, shown, is_due)
        return False

    def _show(
        self, label: str, report: str, done: int, total: int | None, is_due: bool
    ) -> None:
        name = self._numbered(label)
        self._bars.update(self._bar, description=name, completed=done, report=report)
        # An update takes None for no change.
        self._bars.tasks[0].total = total
        self._bars.update(self._bar, visible=done != total)
        if is_due:
            self._shown_at = time.monotonic()
            self._bars.refresh()
            if not self.console.is_terminal:
                self.note(f"{name}: {report}")

    def _show_overall(
        self, label: str = "", seconds_left: float = 0.0, *, is_due: bool
    ) -> None:
        done, total = len(self._done), len(self._work)
        left = self._time_left(label, seconds_left)
        if is_due and not self.console.is_terminal:
            self.note(f"{done} of {total} runs are done{left}")
        report = f"{done} of {total} done{left}"
        self._bars.update(
            self._overall, completed=done, total=total, report=report, visible=True
        )

    def _time_left(self, label: str, seconds_left: float) -> str:
        """That of this run, then of the others, which compile and are measured as well."""
        done = self._work_done() + self._work.get(label, 0.0)
        if done <= self._work_before:
            return ""
        elapsed = time.monotonic() - self._began_at + seconds_left
        others = sum(self._work.values()) - done
        seconds = seconds_left + others * elapsed / (done - self._work_before)
        hours, minutes = divmod(math.ceil(seconds / 60), 60)
        time_left = f"{hours} h {minutes} min" if hours else f"{minutes} min"
        return f", about {time_left} left" if hours or minutes else ""

    def _work_done(self) -> float:
        return sum(work for label, work in self._work.items() if label in self._done)

    def _numbered(self, label: str) -> str:
        if label not in self._work:
            return label
        return f"run {[*self._work].index(label) + 1} of {len(self._work)}: {label}"

    def _is_late(self) -> bool:
        return time.monotonic() - self._shown_at >= _SECONDS_BETWEEN_LINES


def _columns(width: int) -> tuple[rich_progress.ProgressColumn, ...]:
    """Never the whole width: a ^C at its end would wrap, and leave a line behind."""
    name, report = "{task.description}", "{task.fields[report]}"
    if width < _WIDTH_OF_ONE_LINE:
        return (rich_progress.TextColumn(f"{name}\n  {report}"),)
    bar = rich_progress.BarColumn(bar_width=12)
    return rich_progress.TextColumn(name), bar, rich_progress.TextColumn(report)


def describe(chunk: Chunk, metrics: Metrics | None, steps: int) -> str:
    """Step, speed, time left, loss, accuracy and share of truncated steps on one line."""
    digits = 0 if chunk.speed >= 10 else 1
    left = round(chunk.seconds_left)
    is_done = chunk.step == steps
    time_left = "done" if is_done else f"{left // 60}:{left % 60:02d} left"
    parts = [f"{chunk.step:,}/{steps:,}", f"{chunk.speed:.{digits}f}/s", time_left]
    parts.append(f"loss {chunk.batch_loss:.3f}")
    if metrics is not None:
        test, truncated = metrics.test_accuracy, metrics.truncated
        parts += [f"test {test:.1%}", f"truncated lately {truncated:.0%}"]
    return "  ".join(parts)
