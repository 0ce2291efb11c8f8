"""What is seen while the runs of a grid have their turn: which one, and the time left."""

import time
from collections.abc import Sequence

from heavytail_optax.experiments.cell_result import CellResult
from heavytail_optax.experiments.grid import Cell, read_cell
from heavytail_optax.experiments.progress import LiveProgress, PlainProgress
from heavytail_optax.experiments.time_left import about, training_seconds_left
from heavytail_optax.experiments.training import Chunk, Metrics


class GridProgress:
    """Passes on what a run reports, with its number among all runs.

    Args:
      progress: shows it.
      cells: all of the grid that are asked for.
    """

    def __init__(
        self, progress: LiveProgress | PlainProgress, cells: Sequence[Cell]
    ) -> None:
        self._progress = progress
        self._cells = list(cells)
        self._results = [read_cell(cell) for cell in cells]
        self._number = 0
        self._started_at = 0.0
        self._trained_before = 0.0
        self._besides: list[float] = []

    def begin(self, cell: Cell) -> None:
        """A run has its turn."""
        self._number = self._cells.index(cell)
        self._results[self._number] = read_cell(cell)
        self._started_at = time.monotonic()
        self._trained_before = self._result.seconds or 0.0
        self._show_overall()

    def end(self) -> None:
        """The turn of the run is over."""
        self._results[self._number] = read_cell(self._cells[self._number])
        trained = (self._result.seconds or 0.0) - self._trained_before
        self._besides.append(max(0.0, time.monotonic() - self._started_at - trained))
        self._show_overall()

    def start(self, label: str, metrics: Metrics | None) -> None:
        """See `run.Observer`."""
        self._progress.start(self._numbered(label), metrics)
        self._show_overall()

    def advance(self, label: str, chunk: Chunk, metrics: Metrics | None) -> None:
        """See `run.Observer`."""
        self._progress.advance(self._numbered(label), chunk, metrics)
        if chunk.step < self._result.steps:
            self._results[self._number] = self._result._replace(
                status="interrupted", step=chunk.step, seconds=chunk.seconds
            )
            self._show_overall()

    def measuring(self, label: str, done: int, total: int) -> None:
        """See `cell.CellObserver`."""
        self._progress.measuring(self._numbered(label), done, total)

    def note(self, text: str) -> None:
        """See `run.Observer`."""
        self._progress.note(text)

    @property
    def _result(self) -> CellResult:
        return self._results[self._number]

    def _numbered(self, label: str) -> str:
        return f"run {self._number + 1} of {len(self._cells)}: {label}"

    def _show_overall(self) -> None:
        done = [result.is_done for result in self._results]
        self._progress.overall(sum(done), len(done), self._time_left())

    def _time_left(self) -> str:
        """With what compilation and measuring took for the runs of this session."""
        seconds = training_seconds_left(self._results)
        runs = sum(not result.is_done for result in self._results)
        if seconds is None or not runs:
            return ""
        if self._besides:
            seconds += runs * sum(self._besides) / len(self._besides)
        return f"{about(seconds)} left"
