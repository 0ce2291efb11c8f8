"""One run: a method with one seed, from where it is to its last step, kept on disk."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Protocol

from jax.sharding import Mesh

from heavytail_optax.experiments.data import Dataset
from heavytail_optax.experiments.devices.parallel import replicate
from heavytail_optax.experiments.devices.processes import in_all_or_none, in_any_process
from heavytail_optax.experiments.methods import MethodName
from heavytail_optax.experiments.runs.results import MethodResult
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.storage import run_directory
from heavytail_optax.experiments.storage.checkpoints import (
    restore_latest,
    save_checkpoint,
)
from heavytail_optax.experiments.storage.disk_errors import disk_errors
from heavytail_optax.experiments.storage.metrics_log import (
    append_metrics,
    drop_metrics_after,
    metrics_up_to,
    read_metrics,
)
from heavytail_optax.experiments.storage.tensorboard_log import tensorboard_log
from heavytail_optax.experiments.training.random_streams import random_streams
from heavytail_optax.experiments.training.trainer import (
    Chunk,
    Metrics,
    TrainState,
    build_trainer,
    train,
)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; the numbers are the same but for rounding.

    Attributes:
      mesh: of the devices that a batch is spread over, None for one device.
      tensorboard: whether the metrics also go to TensorBoard's event files.
      writes: whether this process is the one that writes metrics.
    """

    mesh: Mesh | None = None
    tensorboard: bool = False
    writes: bool = True


ON_ONE_DEVICE = RunOptions()


class Observer(Protocol):
    """Is told what happens, to show it."""

    def start(self, label: str, metrics: Metrics | None) -> None:
        """A run starts, from the step of `metrics` where it goes on."""

    def advance(self, label: str, chunk: Chunk, metrics: Metrics | None) -> None:
        """A chunk of steps is done; `metrics` are the latest."""

    def note(self, text: str) -> None:
        """Something the user should know."""


def run_method(
    directory: pathlib.Path,
    settings: Settings,
    dataset: Dataset,
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
    options: RunOptions = ON_ONE_DEVICE,
    label: str | None = None,
    finish: Callable[[TrainState], None] = lambda state: None,
) -> MethodResult:
    """Trains from where it is to the last step.

    Args:
      directory: of the job, with its config.json.
      settings: of the run.
      dataset: of the job.
      observer: is told what happens.
      should_stop: asked after each chunk; what is done is then saved.
      options: that do not change the numbers.
      label: of the run, for the observer; by default that of the method.
      finish: called with the state after the last step, when it is saved.

    Returns:
      "interrupted" if steps are left because `should_stop()` was true.
    """
    method = settings.method.method
    log = run_directory.metrics_path(directory, method)
    label = label or settings.method.kind.label
    if in_any_process(should_stop()):
        return _as_left(method, settings, read_metrics(log))
    shape = dataset.train.images.shape[1:]
    mesh = options.mesh
    trainer = build_trainer(settings, shape, dataset.num_classes, mesh)
    keys = replicate(mesh, random_streams(settings.seed))
    train_split, test_split = replicate(mesh, (dataset.train, dataset.test))
    dataset = dataset._replace(train=train_split, test=test_split)
    state = trainer.init(keys)
    with contextlib.ExitStack() as stack:
        stack.enter_context(disk_errors(directory))
        checkpoints = run_directory.checkpoints_path(directory, method)
        saved = restore_latest(checkpoints, state, observer.note)
        state = state if saved is None else saved
        board = None
        with in_all_or_none():
            keep = drop_metrics_after if options.writes else metrics_up_to
            history = keep(log, int(state.step))
            if options.tensorboard and options.writes:
                events = run_directory.tensorboard_path(directory, method)
                board = stack.enter_context(tensorboard_log(events, history))
        observer.start(label, history[-1] if history else None)
        seconds = history[-1].seconds if history else 0.0
        for chunk in train(settings.training, dataset, trainer, state, keys, seconds):
            if chunk.metrics is not None:
                with in_all_or_none():
                    if options.writes:
                        append_metrics(log, chunk.metrics)
                    if board is not None:
                        board(chunk.metrics)
                history.append(chunk.metrics)
            if chunk.non_finite is not None:
                step, value = chunk.non_finite
                observer.note(
                    f"{label} diverged: its loss is {value} at step {step:,}. "
                    "No more steps are taken with it."
                )
                return MethodResult(method, "diverged", tuple(history), step)
            stops = (
                in_any_process(should_stop()) and chunk.step < settings.training.steps
            )
            if chunk.metrics is not None or stops:
                # After the metrics: a run killed in between repeats the chunk.
                save_checkpoint(checkpoints, chunk.step, chunk.state)
            observer.advance(label, chunk, history[-1] if history else None)
            if stops:
                return MethodResult(method, "interrupted", tuple(history))
            state = chunk.state
        finish(state)
    return MethodResult(method, "finished", tuple(history))


def _as_left(
    method: MethodName, settings: Settings, history: list[Metrics]
) -> MethodResult:
    """The result of a run that is not gone on with."""
    done = bool(history) and history[-1].step == settings.training.steps
    finite = done and math.isfinite(history[-1].train_loss)
    return MethodResult(method, "finished" if finite else "interrupted", tuple(history))
