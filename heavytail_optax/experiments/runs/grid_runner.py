"""The runs of a grid here, one after the other."""

import pathlib
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

from heavytail_optax.experiments.data import Dataset
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.runs.cell import run_cell
from heavytail_optax.experiments.runs.grid import Cell, Grid, read_cell
from heavytail_optax.experiments.runs.grid_progress import GridProgress
from heavytail_optax.experiments.runs.run import RunOptions
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.storage.run_lock import RunBusyError
from heavytail_optax.experiments.terminal.session import Session


class Unfinished(NamedTuple):
    """A run that did not come to its end, though nobody stopped it."""

    cell: Cell
    problem: str
    is_busy: bool = False  # another process is at work on it


def run_here(
    grid: Grid,
    cells: Sequence[Cell],
    typed: str,
    session: Session,
    load: Callable[[Settings], Dataset],
    options: RunOptions,
) -> list[Unfinished]:
    """Takes each run to its end, until there is a wish to stop.

    A run that fails does not keep the others from their turn.

    Args:
      grid: that the cells are of.
      cells: with something left to do.
      typed: the command.
      session: open.
      load: of `cell.data_loader`.
      options: that do not change the numbers.

    Returns:
      Those that failed, or that another process was at work on and is still.
    """
    progress = GridProgress(session.progress, list(grid.cells()))
    found: list[Unfinished] = []
    for cell in cells:
        if session.stop.is_set():
            break
        if read_cell(cell).is_done:  # by another process, in the meantime
            continue
        progress.begin(cell)
        try:
            run_cell(
                cell, grid.preset, typed, progress, load, session.stop.is_set, options
            )
        except RunBusyError as error:
            found.append(Unfinished(cell, str(error), is_busy=True))
            progress.note(f"{cell.label}: another process is at work on it")
        except JobError as error:
            found.append(Unfinished(cell, str(error)))
            progress.note(f"{cell.label} failed: {error}")
        # Too little memory for one method, say, must not cost the others their night.
        except Exception as error:  # noqa: BLE001
            path = _write_traceback(cell, error)
            problem = f"{_first_line(error)} (all of it is in {path})"
            found.append(Unfinished(cell, problem))
            progress.note(f"{cell.label} failed: {problem}")
        progress.end()
    return [each for each in found if not read_cell(each.cell).is_done]


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _write_traceback(cell: Cell, error: BaseException) -> pathlib.Path:
    path = cell.directory / "failure.txt"
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return path
