"""What is seen while a job runs: a live bar in a terminal, plain lines elsewhere."""

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn

from heavytail_optax.experiments.training.trainer import Chunk, Metrics

_LINES = 10
_WIDTH_OF_ONE_LINE = 116
_SECONDS_BETWEEN_LINES = 15.0


class LiveProgress:
    """A bar for each run. Use as a context manager.

    Args:
      console: a terminal.
      steps: of each run.
      keep_bars: whether the bar of a run stays when it is done; otherwise one line about
        it goes up and out of sight, as is best for many runs.
    """

    def __init__(self, console: Console, steps: int, keep_bars: bool = True) -> None:
        self._steps = steps
        self._keep_bars = keep_bars
        self._first: Metrics | None = None
        self._progress = Progress(*_columns(console.width), console=console)
        self._task: TaskID | None = None
        self._overall: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def start(self, label: str, metrics: Metrics | None) -> None:
        """Adds a bar, which pulses while the steps are compiled."""
        self._first = metrics
        done = metrics.step if metrics else 0
        if done == self._steps:
            self._add(label, "already done", done, done)
        else:
            self._add(label, "compiling", done, None)

    def advance(self, label: str, chunk: Chunk, metrics: Metrics | None) -> None:
        """Moves the bar to the step of the chunk."""
        report = describe(chunk, metrics, self._first, self._steps)
        if chunk.step == self._steps and not self._keep_bars:
            self._remove()
            self.note(f"{label}  {report}")
            return
        assert self._task is not None
        self._progress.update(
            self._task, total=self._steps, completed=chunk.step, report=report
        )

    def measuring(self, label: str, measure: str, done: int, total: int) -> None:
        """Shows a bar for each measure, which pulses if it has no parts."""
        if done == 0:
            self._add(label, "", 0, None)
        if done == total and not self._keep_bars:
            self._remove()
            return
        assert self._task is not None
        report = f"measuring {_parts(measure, done, total)}"
        shown_total = None if (done, total) == (0, 1) else total
        self._progress.update(
            self._task, total=shown_total, completed=done, report=report
        )

    def overall(self, done: int, total: int, time_left: str) -> None:
        """Shows a bar of all runs, the lowest."""
        if self._overall is None:
            self._overall = self._progress.add_task("all runs", total=total, report="")
        report = ", ".join(filter(None, [f"{done} of {total} done", time_left]))
        self._progress.update(self._overall, completed=done, report=report)

    def note(self, text: str) -> None:
        """Shows a line above the bars."""
        self._progress.console.print(text, highlight=False)

    def _add(self, label: str, report: str, done: int, total: int | None) -> None:
        if not self._keep_bars:
            self._remove()
        overall = None
        if self._overall is not None:
            overall = self._progress.tasks[-1]
            self._progress.remove_task(self._overall)
        self._task = self._progress.add_task(
            label, total=total, completed=done, report=report
        )
        if overall is not None:
            self._overall = self._progress.add_task(
                overall.description,
                total=overall.total,
                completed=int(overall.completed),
                **overall.fields,
            )

    def _remove(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


class PlainProgress:
    """About ten lines a run, and one at least every quarter of a minute.

    Args:
      console: a file or a pipe.
      steps: of each run.
      keep_bars: for a terminal.
    """

    def __init__(self, console: Console, steps: int, keep_bars: bool = True) -> None:
        del keep_bars
        self._console = console
        self._steps = steps
        self._first: Metrics | None = None
        self._shown_step = 0
        self._shown_at = 0.0
        self._runs_done: int | None = None

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
        is_due = (
            chunk.step == self._steps
            or chunk.step - self._shown_step >= self._steps / _LINES
            or time.monotonic() - self._shown_at >= _SECONDS_BETWEEN_LINES
        )
        if is_due:
            self._shown_step, self._shown_at = chunk.step, time.monotonic()
            report = describe(chunk, metrics, self._first, self._steps)
            self.note(f"{label}: {report}")

    def measuring(self, label: str, measure: str, done: int, total: int) -> None:
        """Writes a line at first, and then now and again."""
        now = time.monotonic()
        if done == 0:
            self.note(f"{label}: measuring {measure}")
        elif done < total and now - self._shown_at >= _SECONDS_BETWEEN_LINES:
            self.note(f"{label}: measuring {_parts(measure, done, total)}")
        else:
            return
        self._shown_at = now

    def overall(self, done: int, total: int, time_left: str) -> None:
        """Writes a line when a run is done."""
        if done != self._runs_done:
            self._runs_done = done
            report = [f"{done} of {total} runs are done", time_left]
            self.note(", ".join(filter(None, report)))

    def note(self, text: str) -> None:
        """Writes a line."""
        self._console.print(text, highlight=False, soft_wrap=True)


def _parts(measure: str, done: int, total: int) -> str:
    return measure if total == 1 else f"{measure}: {done} of {total}"


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
    """Step, speed, time left, loss, accuracy and share of truncated steps on one line."""
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
