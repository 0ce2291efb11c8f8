"""The runs of a grid as jobs of submitit, watched until all are done."""

import dataclasses
import time
from collections.abc import Sequence
from typing import NamedTuple

from heavytail_optax.experiments.runs.cell_job import CellJob
from heavytail_optax.experiments.runs.grid import Cell, Grid, read_cell
from heavytail_optax.experiments.runs.grid_runner import Unfinished
from heavytail_optax.experiments.runs.job_options import ClusterName, JobOptions
from heavytail_optax.experiments.runs.job_queues import (
    Job,
    JobQueue,
    LocalQueue,
    SlurmQueue,
    result_of,
)
from heavytail_optax.experiments.runs.machine import Machine
from heavytail_optax.experiments.runs.time_left import about, training_seconds_left
from heavytail_optax.experiments.terminal.session import Session

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_BETWEEN_LINES = 60.0


class _Submitted(NamedTuple):
    cell: Cell
    job: Job


def launch(
    grid: Grid,
    cells: Sequence[Cell],
    typed: str,
    session: Session,
    machine: Machine,
    options: JobOptions,
    cluster: ClusterName,
) -> list[Unfinished]:
    """Submits a job for each run and waits for them, or for a wish to stop.

    Args:
      grid: that the cells are of.
      cells: with something left to do.
      typed: the command.
      session: open.
      machine: where and how each run is carried out.
      options: of the jobs.
      cluster: of `job_options.find_cluster`.

    Returns:
      The runs that failed, or that another process is at work on.

    Raises:
      LauncherError: if the cluster refuses the jobs.
    """
    folder = grid.directory.absolute() / "submitit"
    queue: JobQueue = (LocalQueue if cluster == "local" else SlurmQueue)(
        folder, options
    )
    jobs = {cell: _job(cell, grid, typed, machine, cluster) for cell in cells}
    earlier = queue.earlier(list(jobs.values()))
    under_way = [_Submitted(cells[place], job) for place, job in earlier.items()]
    waiting = [cell for place, cell in enumerate(cells) if place not in earlier]
    session.progress.note(
        f"Jobs by submitit ({cluster}): {len(waiting)} to submit, {len(under_way)} "
        f"under way from before. Logs: {folder}"
    )
    board = _Board(session, grid, options.jobs_at_once)
    found: list[Unfinished] = []
    try:
        while (waiting or under_way) and not session.stop.is_set():
            room = queue.room(len(under_way))
            now, waiting = waiting[:room], waiting[len(waiting[:room]) :]
            if now:
                new = queue.submit([jobs[cell] for cell in now])
                under_way += map(_Submitted, now, new)
            for each in [each for each in under_way if each.job.done()]:
                under_way.remove(each)
                found += _outcome(each, session)
            at_work = sum(queue.is_at_work(each.job) for each in under_way)
            board.show(at_work, len(waiting) + len(under_way) - at_work, len(found))
            if under_way:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
        if under_way:
            session.progress.note(queue.stop([each.job for each in under_way]))
    return [each for each in found if not read_cell(each.cell).is_done]


def _job(
    cell: Cell, grid: Grid, typed: str, machine: Machine, cluster: ClusterName
) -> CellJob:
    data_dir = machine.data_dir and machine.data_dir.absolute()
    return CellJob(
        cell.directory.absolute(),
        grid.preset,
        dataclasses.asdict(cell.settings),
        typed,
        dataclasses.replace(machine, data_dir=data_dir),
        cluster,
    )


def _outcome(submitted: _Submitted, session: Session) -> list[Unfinished]:
    """Tells what a job came to; returns it if that was not the end of its run."""
    cell, job = submitted
    status, problem = result_of(job)
    if status == "busy":
        session.progress.note(f"{cell.label}: another process is at work on it")
        return [Unfinished(cell, problem, is_busy=True)]
    if status == "failed":
        problem = f"{problem} Log: {job.paths.stderr}"
        session.progress.note(f"{cell.label} failed: {problem}")
        return [Unfinished(cell, problem)]
    result = read_cell(cell)
    accuracy = result.test_accuracy
    text = result.outcome + (f", test {accuracy:.1%}" if accuracy is not None else "")
    session.progress.note(f"{cell.label}: {text}")
    return []


class _Board:
    """Says how many runs are done, when that changes and now and again."""

    def __init__(self, session: Session, grid: Grid, jobs_at_once: int) -> None:
        self._session = session
        self._cells = list(grid.cells())
        self._jobs_at_once = jobs_at_once
        self._shown: tuple[int, ...] | None = None
        self._shown_at = 0.0

    def show(self, at_work: int, waiting: int, failed: int) -> None:
        now, counts = time.monotonic(), (at_work, waiting, failed)
        if counts == self._shown and now - self._shown_at < _SECONDS_BETWEEN_LINES:
            return
        self._shown, self._shown_at = counts, now
        results = [read_cell(cell) for cell in self._cells]
        done = sum(result.is_done for result in results)
        # A job takes a moment to end when its run is done.
        at_work = min(at_work, len(results) - done)
        text = (
            f"{done} of {len(results)} runs are done, {at_work} at work, {waiting} "
            f"waiting, {failed} failed"
        )
        seconds = training_seconds_left(results)
        if seconds and at_work:
            text += f", {about(seconds / min(self._jobs_at_once, at_work))} left"
        self._session.progress.note(text)
