"""What a run has come to: read once, and passed on."""

import contextlib
import math
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from ..errors import USAGE
from ..measures.measure import Measured, read_record
from ..methods import METHODS, MethodName
from ..storage.checkpoints import checkpoint_path
from ..storage.metrics_log import read_log
from ..storage.run_directory import RunDirectoryError, read_config
from ..training.batches import examples_per_step
from ..training.following import Sharpness
from ..training.trainer import Metrics
from .grid import Grid, Run, read_grid

RunStatus = Literal["finished", "interrupted", "diverged", "missing"]


class RunResult(NamedTuple):
    """One run: a method with a seed. What is not known is None."""

    method: MethodName
    seed: int
    status: RunStatus  # "missing" if it has not been evaluated yet
    step: int  # number of steps done
    steps: int  # number of steps asked for
    train_accuracy: float | None = None  # from 0 to 1, on images as they are labelled
    test_accuracy: float | None = None
    train_loss: float | None = None  # cross-entropy in nats on all training images
    truncated: float | None = None  # share of all steps whose update was truncated
    max_norm: float | None = None  # the last bound of the update norm; NaN without one
    seconds: float | None = None  # without compilation
    examples_per_step: float | None = None
    record: Mapping[str, Measured] = MappingProxyType({})  # all that was measured
    asked_measures: tuple[str, ...] = ()  # of `record`: not done without
    test_images: int | None = None  # behind `test_accuracy`
    classes: int | None = None
    history: tuple[Metrics, ...] = ()  # in the order of the steps
    followed: tuple[Sharpness, ...] = ()  # the same, with --follow-sharpness
    is_kept: bool = True  # whether its last state is there, or needed by nothing

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: diverged, or trained, kept and measured."""
        is_measured = set(self.asked_measures) <= set(self.record)
        is_finished = self.status == "finished" and self.is_kept and is_measured
        return self.status == "diverged" or is_finished

    @property
    def sharpness(self) -> dict[str, tuple[float, float | None]]:
        """Name of a scalar -> value and standard error of its own sampling."""
        scalars = [each.outcome.scalars for each in self.record.values()]
        return {name: value for each in scalars for name, value in each.items()}

    @property
    def how_it_ended(self) -> str:
        """In words: "finished", "missing" or "diverged at step 1,204"."""
        if self.status in ("finished", "missing"):
            return self.status
        return f"{self.status} at step {self.step:,}"

    @property
    def label(self) -> str:
        """The method's name with that of the paper's tables."""
        return METHODS[self.method].label

    @property
    def finite_history(self) -> tuple[Metrics, ...]:
        """The metrics up to the divergence, if there was one."""
        return tuple(row for row in self.history if math.isfinite(row.train_loss))


def read_result(run: Run) -> RunResult:
    """What a run has come to, as its directory has it."""
    paths, settings, steps = run.paths, run.settings, run.settings.training.steps
    data: Mapping[str, Any] = {}
    # Metrics count without it.
    with contextlib.suppress(RunDirectoryError):
        data = read_config(paths.config)["data"]
    log = read_log(paths.metrics)
    history = tuple(log.evaluations)
    result = RunResult(
        method=run.method,
        seed=settings.seed,
        status="missing",
        step=0,
        steps=steps,
        examples_per_step=examples_per_step(settings),
        asked_measures=run.measures,
        test_images=data.get("test_images"),
        classes=data.get("classes"),
        history=history,
        followed=tuple(log.sharpness),
        # A kill may come before the last checkpoint, which a measured run does not need.
        is_kept=bool(run.measures)
        or checkpoint_path(paths.checkpoints, steps).exists(),
    )
    if not history:
        return result
    last = history[-1]
    status: RunStatus = "finished" if last.step == steps else "interrupted"
    return result._replace(
        # As in `training`, which stops at the first loss that is not finite.
        status=status if last.is_finite else "diverged",
        step=last.step,
        train_accuracy=last.train_accuracy,
        test_accuracy=last.test_accuracy,
        train_loss=last.train_loss,
        truncated=truncated_share(history),
        max_norm=last.max_norm,
        seconds=last.seconds,
        record=read_record(paths.measurements),
    )


def read_results(grid: Grid) -> dict[Run, RunResult]:
    """What each run of a grid has come to."""
    return {run: read_result(run) for run in grid.runs()}


def truncated_share(history: Sequence[Metrics]) -> float:
    """Share of all steps that were truncated, from metrics from the first step on."""
    starts = [0, *(metrics.step for metrics in history)]
    weighted = sum(
        metrics.truncated * (metrics.step - start)
        for start, metrics in zip(starts, history, strict=False)
    )
    return weighted / history[-1].step


def finished_runs(
    directory: pathlib.Path,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> tuple[Grid, dict[Run, RunResult], list[str]]:
    """The grid, the finished runs that are asked for, and what became of the others."""
    grid = read_grid(directory)
    asked = {
        run: read_result(run)
        for run in grid.runs()
        if (methods is None or run.method in methods)
        and (seeds is None or run.settings.seed in seeds)
    }
    if not asked:
        there = "; ".join(run.label for run in grid.runs())
        problem = f"No such run in {directory}. There is: {there}."
        raise RunDirectoryError(problem, exit_status=USAGE)
    finished = {k: result for k, result in asked.items() if result.status == "finished"}
    others = [
        f"{run.label}: {result.how_it_ended}"
        for run, result in asked.items()
        if run not in finished
    ]
    if not finished:
        raise RunDirectoryError(
            f"No run in {directory} is finished: {'; '.join(others)}.",
            exit_status=USAGE,
        )
    return grid, finished, others
