"""What is seen while a job runs: a live bar in a terminal, plain lines elsewhere."""

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

from heavytail_optax.experiments.training import Chunk, Metrics

_LINES = 10
_WIDTH_OF_ONE_LINE = 116
_SECONDS_BETWEEN_LINES = 15.0


class LiveProgress:
    """A bar for each run. Use as a context manager.

    Args:
      console: a terminal.
      steps: of each run.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self._steps = steps
        self._first: Metrics | None = None
        self._progress = Progress(*_columns(console.width), console=console)
        self._task = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def start(self, label: str, metrics: Metrics | None) -> None:
        """Adds a bar, which pulses while the steps are compiled."""
        self._first = metrics
        done = metrics.step if metrics else 0
        finished = done == self._steps
        self._task = self._progress.add_task(
            label,
            total=self._steps if finished else None,
            completed=done,
            report="already done" if finished else "compiling",
        )

    def advance(self, label: str, chunk: Chunk, metrics: Metrics | None) -> None:
        """Moves the bar to the step of the chunk."""
        del label
        assert self._task is not None
        self._progress.update(
            self._task,
            total=self._steps,
            completed=chunk.step,
            report=describe(chunk, metrics, self._first, self._steps),
        )

    def note(self, text: str) -> None:
        """Shows a line above the bars."""
        self._progress.console.print(text, highlight=False)


class PlainProgress:
    """About ten lines a run, and one at least every quarter of a minute.

    Args:
      console: a file or a pipe.
      steps: of each run.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._first: Metrics | None = None
        self._shown_step = 0
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def start(self, label: str, metrics: Metrics | None) -> None:
        """Says that the steps are being compiled, or that there are none left."""
        self._first = metrics
        self._shown_step = metrics.step if metrics else 0
        self._shown_at = time.monotonic()
        finished = self._shown_step == self._steps
        self.note(f"{label}: " + ("already done" if finished else "compiling"))

    def advance(self, label: str, chunk: Chunk, metrics: Metrics | None) -> None:
        """Writes a line if there is enough news."""
        now = time.monotonic()
        is_due = (
            chunk.step == self._steps
            or chunk.step - self._shown_step >= self._steps / _LINES
            or now - self._shown_at >= _SECONDS_BETWEEN_LINES
        )
        if is_due:
            self._shown_step, self._shown_at = chunk.step, now
            report = describe(chunk, metrics, self._first, self._steps)
            self.note(f"{label}: {report}")

    def note(self, text: str) -> None:
        """Writes a line."""
        self._console.print(text, highlight=False, soft_wrap=True)


def _columns(width: int) -> tuple[ProgressColumn, ...]:
    """One line a method where it fits, two elsewhere.

    Never the whole width: the ^C that a terminal shows would wrap, and what is drawn
    again would leave a line behind.
    """
    if width < _WIDTH_OF_ONE_LINE:
        return (TextColumn("{task.description}\n  {task.fields[report]}"),)
    return (
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[report]}"),
    )


def describe(
    chunk: Chunk, metrics: Metrics | None, first: Metrics | None, steps: int
) -> str:
    """Step, speed, time left, loss, accuracy and share of truncated steps on one line.

    Args:
      chunk: the latest.
      metrics: of the latest evaluation, or None if there was none yet.
      first: those that the run went on from, or None if it started at step 0.
      steps: of the whole run.

    Returns:
      Text such as "300/3,000  98/s  0:27 left  loss 0.91  test 78.1%  truncated 4%".
    """
    done = chunk.step - (first.step if first else 0)
    seconds = chunk.seconds - (first.seconds if first else 0.0)
    speed = done / max(seconds, 1e-9)
    digits = 0 if speed >= 10 else 1
    left = round((steps - chunk.step) / speed)
    time_left = f"{left // 60}:{left % 60:02d} left" if left else "done"
    line = (
        f"{chunk.step:,}/{steps:,}  {speed:.{digits}f}/s  {time_left}  "
        f"loss {chunk.batch_loss:.3f}"
    )
    if metrics is None:
        return line
    return (
        f"{line}  test {metrics.test_accuracy:.1%}  truncated {metrics.truncated:.0%}"
    )
