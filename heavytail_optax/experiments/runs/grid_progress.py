"""Shows which of the runs of a grid is running, and the time left."""

import time
from collections.abc import Mapping

from heavytail_optax.experiments.runs.result import RunResult
from heavytail_optax.experiments.runs.run import Run
from heavytail_optax.experiments.runs.time_left import (
    rough_duration,
    training_seconds_left,
)
from heavytail_optax.experiments.terminal.progress import LiveProgress, PlainProgress
from heavytail_optax.experiments.training.trainer import Chunk, Metrics


class GridProgress:
    """Passes on what a run reports, with its number among all runs."""

    def __init__(
        self, progress: LiveProgress | PlainProgress, results: Mapping[Run, RunResult]
    ) -> None:
        self._progress = progress
        self._results = results  # whoever works on the runs keeps it up to date
        self._run = next(iter(results))
        self._now: RunResult | None = None  # of the run at work
        self._started_at = 0.0
        self._trained_before = 0.0
        self._besides: list[float] = []

    def begin(self, run: Run) -> None:
        """A run starts."""
        self._run = run
        self._started_at = time.monotonic()
        self._trained_before = self._results[run].seconds or 0.0
        self._show_overall()

    def end(self) -> None:
        """The run that started last is over, or left to another process."""
        self._now = None
        result = self._results[self._run]
        if result.is_done:
            trained = (result.seconds or 0.0) - self._trained_before
            taken = time.monotonic() - self._started_at
            self._besides.append(max(0.0, taken - trained))
        self._show_overall()

    def start(self, label: str, metrics: Metrics | None) -> None:
        """See `train_run.Observer`."""
        self._progress.start(self._numbered(label), metrics)
        self._show_overall()

    def advance(self, label: str, chunk: Chunk, metrics: Metrics | None) -> None:
        """See `train_run.Observer`."""
        self._progress.advance(self._numbered(label), chunk, metrics)
        result = self._results[self._run]
        if chunk.step < result.steps:
            self._now = result._replace(
                status="interrupted", step=chunk.step, seconds=chunk.seconds
            )
            self._show_overall()

    def measuring(self, label: str, measure: str, done: int, total: int) -> None:
        """See `train_run.Observer`."""
        self._progress.measuring(self._numbered(label), measure, done, total)

    def note(self, text: str) -> None:
        """See `train_run.Observer`."""
        self._progress.note(text)

    def _numbered(self, label: str) -> str:
        number = list(self._results).index(self._run) + 1
        return f"run {number} of {len(self._results)}: {label}"

    def _show_overall(self) -> None:
        done = [result.is_done for result in self._all()]
        self._progress.overall(sum(done), len(done), self._time_left())

    def _all(self) -> list[RunResult]:
        now = {} if self._now is None else {self._run: self._now}
        return list({**self._results, **now}.values())

    def _time_left(self) -> str:
        """With what compilation and measuring took for the runs of this session."""
        results = self._all()
        seconds = training_seconds_left(results)
        runs = sum(not result.is_done for result in results)
        if seconds is None or not runs:
            return ""
        if self._besides:
            seconds += runs * sum(self._besides) / len(self._besides)
        return f"{rough_duration(seconds)} left"
