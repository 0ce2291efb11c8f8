"""Training on pytrees: chunks of steps in one compiled scan, metrics between them.

The batches and the noise of a step are functions of a key and the number of the step, and
the state holds all else, so that a run which goes on from a saved state equals the
uninterrupted one bit for bit.
"""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from heavytail_optax.experiments.data import Dataset, Split
from heavytail_optax.experiments.evaluation import Scores, evaluate
from heavytail_optax.experiments.gradients import build_gradient
from heavytail_optax.experiments.methods import METHODS, MethodName
from heavytail_optax.experiments.models import build_model
from heavytail_optax.experiments.optimizers import build_optimizer
from heavytail_optax.experiments.random_streams import random_streams
from heavytail_optax.experiments.settings import Settings


class TrainState(NamedTuple):
    """All that a step reads and writes."""

    step: jax.Array  # shape=(), dtype=int32, number of steps done
    params: Any  # a pytree of arrays
    opt_state: optax.OptState


class StepMetrics(NamedTuple):
    """What one step reports; a scan over steps stacks them."""

    loss: (
        jax.Array
    )  # shape=(), dtype=float32, plain mean over a batch, before the update
    update_norm: jax.Array  # shape=(), dtype=float32, before truncation
    truncated: jax.Array  # shape=(), dtype=int32, 1 where the update was truncated


class Metrics(NamedTuple):
    """What is recorded after a chunk of steps; losses are plain means in nats."""

    step: int  # number of steps done
    batch_loss: float  # mean over the chunk
    train_loss: float  # on all training images, with the labels trained on
    train_accuracy: float  # share of those labels that are matched
    test_loss: float
    test_accuracy: float
    update_norm: float  # median over the chunk of the norm before truncation
    largest_update_norm: float  # largest one of the chunk
    truncated: float  # share of the chunk's steps that were truncated
    seconds: float  # time taken so far, without compilation


class Chunk(NamedTuple):
    """The outcome of a chunk of steps."""

    state: TrainState
    metrics: Metrics
    non_finite: tuple[int, float] | None  # step and value of the first bad loss


RunSteps = Callable[[TrainState, Split], tuple[TrainState, StepMetrics]]


class Trainer(NamedTuple):
    """The three functions that a run is made of."""

    init: Callable[[], TrainState]
    compile_steps: Callable[[TrainState, Split, int], RunSteps]
    evaluate: Callable[[Any, Split], Scores]


def build_trainer(
    settings: Settings, method: MethodName, image_shape: tuple[int, ...], classes: int
) -> Trainer:
    """The initial state, the compiled steps and the compiled evaluation of a run.

    Args:
      settings: of the job.
      method: whose gradient and optimiser are used.
      image_shape: (height, width, channels).
      classes: number of classes.

    Returns:
      `init()`; `compile_steps(state, train_split, number)`, compiled once for each
      number, whose result takes that many steps and donates the state it is given;
      `evaluate(params, split)`.
    """
    keys = random_streams(settings.seed)
    predict, params = build_model(settings, keys.weights, image_shape, classes)
    gradient = build_gradient(METHODS[method], settings, predict, keys)
    optimizer = build_optimizer(METHODS[method], settings, keys.noise)

    def init() -> TrainState:
        copied = jax.tree.map(jnp.copy, params)
        return TrainState(jnp.zeros((), jnp.int32), copied, optimizer.init(params))

    def take_step(state: TrainState, train: Split) -> tuple[TrainState, StepMetrics]:
        loss, grads = gradient(state.params, train, state.step)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = _step_metrics(loss, updates, state.opt_state, opt_state)
        return TrainState(state.step + 1, params, opt_state), metrics

    @functools.partial(jax.jit, static_argnums=2, donate_argnums=0)
    def run_steps(
        state: TrainState, train: Split, number: int
    ) -> tuple[TrainState, StepMetrics]:
        def body(state: TrainState, _: None) -> tuple[TrainState, StepMetrics]:
            return take_step(state, train)

        return jax.lax.scan(body, state, length=number)

    compiled: dict[int, RunSteps] = {}

    def compile_steps(state: TrainState, train: Split, number: int) -> RunSteps:
        if number not in compiled:
            compiled[number] = run_steps.lower(state, train, number).compile()
        return compiled[number]

    def evaluate_params(params: Any, split: Split) -> Scores:
        return evaluate(predict, params, split)

    return Trainer(init, compile_steps, jax.jit(evaluate_params))


def train(
    settings: Settings,
    dataset: Dataset,
    trainer: Trainer,
    state: TrainState,
    seconds: float = 0.0,
) -> Iterator[Chunk]:
    """Trains from a state to the last step, a chunk at a time.

    Args:
      settings: `steps` and `eval_every` count.
      dataset: trained and evaluated on.
      trainer: of the same settings.
      state: `trainer.init()`, or the state of an earlier chunk, to go on from there. It
        is donated: do not use it again.
      seconds: time taken before `state` was reached.

    Yields:
      A `Chunk` after every `eval_every` steps and after the last. Its state is donated
      when the next one is asked for. Ends early after a loss that is not finite.
    """
    done = int(state.step)
    if done >= settings.steps:
        return
    # Compiled now, so as not to count as time of the first chunk.
    trainer.evaluate(state.params, dataset.train)
    trainer.evaluate(state.params, dataset.test)
    while done < settings.steps:
        # Counted from step 0, so that a run which goes on has the same chunks.
        end = (done // settings.eval_every + 1) * settings.eval_every
        number = min(end, settings.steps) - done
        run_steps = trainer.compile_steps(state, dataset.train, number)
        started = time.perf_counter()
        state, steps = run_steps(state, dataset.train)
        train_scores = trainer.evaluate(state.params, dataset.train)
        test_scores = trainer.evaluate(state.params, dataset.test)
        steps, train_scores, test_scores = jax.device_get(
            (steps, train_scores, test_scores)
        )
        seconds += time.perf_counter() - started
        metrics = _summary(done + number, steps, train_scores, test_scores, seconds)
        non_finite = _first_non_finite(done, steps.loss, metrics)
        yield Chunk(state, metrics, non_finite)
        if non_finite is not None:
            return
        done += number


def _step_metrics(
    loss: jax.Array, updates: Any, before: optax.OptState, after: optax.OptState
) -> StepMetrics:
    """The norm before truncation, from the optimiser's state where it truncates."""
    norm = optax.tree.get(after, "update_norm", None)
    if norm is None:
        return StepMetrics(loss, optax.tree.norm(updates), jnp.zeros((), jnp.int32))
    truncated = optax.tree.get(after, "num_truncated") - optax.tree.get(
        before, "num_truncated"
    )
    return StepMetrics(loss, norm, truncated)


def _summary(
    step: int, steps: StepMetrics, train: Scores, test: Scores, seconds: float
) -> Metrics:
    return Metrics(
        step=step,
        batch_loss=float(np.mean(steps.loss)),
        train_loss=float(train.loss),
        train_accuracy=float(train.accuracy),
        test_loss=float(test.loss),
        test_accuracy=float(test.accuracy),
        update_norm=float(np.median(steps.update_norm)),
        largest_update_norm=float(np.max(steps.update_norm)),
        truncated=float(np.mean(steps.truncated)),
        seconds=seconds,
    )


def _first_non_finite(
    done: int, losses: np.ndarray, metrics: Metrics
) -> tuple[int, float] | None:
    """Step (counted from 1) and value of the first loss that is not finite."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        return done + int(bad[0]) + 1, float(losses[bad[0]])
    if not np.isfinite(metrics.train_loss):
        return metrics.step, metrics.train_loss
    return None
