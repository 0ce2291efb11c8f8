"""Trains a run from where it is to its last step, and keeps it on disk."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

from heavytail_optax.experiments.data.dataset import Dataset
from heavytail_optax.experiments.devices.parallel import replicate
from heavytail_optax.experiments.devices.processes import (
    in_all_or_none,
    in_any_process,
    of_first_process,
)
from heavytail_optax.experiments.runs.options import RunOptions
from heavytail_optax.experiments.runs.run import Run
from heavytail_optax.experiments.storage.checkpoints import (
    restore_latest,
    save_checkpoint,
)
from heavytail_optax.experiments.storage.metrics_log import (
    append_metrics,
    drop_metrics_after,
    metrics_up_to,
)
from heavytail_optax.experiments.storage.set_aside import set_aside_lost
from heavytail_optax.experiments.storage.tensorboard_log import tensorboard_log
from heavytail_optax.experiments.training.random_streams import random_streams
from heavytail_optax.experiments.training.trainer import (
    Chunk,
    Metrics,
    TrainState,
    build_trainer,
    evaluation_at,
    train,
)


class Observer(Protocol):
    """Callbacks that report progress to the user."""

    def start(self, label: str, metrics: Metrics | None) -> None:
        """A run starts, from the step of `metrics` where it goes on."""

    def advance(self, label: str, chunk: Chunk, metrics: Metrics | None) -> None:
        """A chunk of steps is done; `metrics` are the latest."""

    def measuring(self, label: str, measure: str, done: int, total: int) -> None:
        """So many parts of a measure are done, of how many."""

    def note(self, text: str) -> None:
        """Something the user should know."""


class Trained(NamedTuple):
    """Where a run has come to in this process."""

    history: list[Metrics]
    state: TrainState | None  # after the last step, None if it did not come there


def train_run(
    run: Run,
    dataset: Dataset,
    observer: Observer,
    should_stop: Callable[[], bool],
    options: RunOptions,
) -> Trained:
    """Trains to the last step, or until the loss is not finite or `should_stop()`."""
    settings, paths, mesh = run.settings, run.paths, options.mesh
    shape = dataset.train.images.shape[1:]
    trainer = build_trainer(settings, shape, dataset.num_classes, mesh)
    keys = replicate(mesh, random_streams(settings.seed))
    train_split, test_split = replicate(mesh, (dataset.train, dataset.test))
    dataset = dataset._replace(train=train_split, test=test_split)
    state = trainer.init(keys)
    with contextlib.ExitStack() as stack:
        saved = restore_latest(paths.checkpoints, state, observer.note)
        state = state if saved is None else saved
        with in_all_or_none():
            history = _history(run, int(state.step), observer, options)
        _note_missing_metrics(run, int(state.step), history, observer)
        seconds = history[-1].seconds if history else 0.0
        # One decision for all processes: they see a shared disk at other times.
        if of_first_process((history[-1].step if history else 0) < int(state.step)):
            row = evaluation_at(settings.training, dataset, trainer, state, seconds)
            if row is not None:
                with in_all_or_none():
                    if options.writes:
                        append_metrics(paths.metrics, row)
                history = [*(each for each in history if each.step < row.step), row]
        board = None
        with in_all_or_none():
            if options.tensorboard and options.writes:
                board = stack.enter_context(tensorboard_log(paths.tensorboard, history))
        observer.start(run.label, history[-1] if history else None)
        for chunk in train(settings.training, dataset, trainer, state, keys, seconds):
            if chunk.metrics is not None:
                with in_all_or_none():
                    if options.writes:
                        append_metrics(paths.metrics, chunk.metrics)
                    if board is not None:
                        board(chunk.metrics)
                history.append(chunk.metrics)
            if chunk.non_finite is not None:
                step, value = chunk.non_finite
                observer.note(
                    f"{run.label} diverged: its loss is {value} at step {step:,}. "
                    "No more steps are taken with it."
                )
                return Trained(history, None)
            stops = (
                in_any_process(should_stop()) and chunk.step < settings.training.steps
            )
            if chunk.metrics is not None or stops:
                # After the metrics: a run killed in between repeats the chunk.
                save_checkpoint(paths.checkpoints, chunk.step, chunk.state)
            observer.advance(run.label, chunk, history[-1] if history else None)
            if stops:
                return Trained(history, None)
            state = chunk.state
    return Trained(history, state)


def _history(
    run: Run, step: int, observer: Observer, options: RunOptions
) -> list[Metrics]:
    """The metrics up to a step; what comes after it is kept aside."""
    if not options.writes:
        return metrics_up_to(run.paths.metrics, step)
    steps = run.settings.training.steps
    set_aside_lost(run.paths, run.label, step, steps, observer.note)
    return drop_metrics_after(run.paths.metrics, step, observer.note)


def _note_missing_metrics(
    run: Run, step: int, history: list[Metrics], observer: Observer
) -> None:
    """A run goes on without metrics of steps before its checkpoint: they are gone."""
    every = run.settings.training.eval_every
    missing = set(range(every, step, every)) - {row.step for row in history}
    if missing:
        steps = ", ".join(f"{each:,}" for each in sorted(missing)[:10])
        more = f" and {len(missing) - 10:,} more" if len(missing) > 10 else ""
        observer.note(
            f"The metrics of the steps {steps}{more} are not in {run.paths.metrics}, and "
            "are not made again."
        )
