"""Training on pytrees: chunks of steps in one compiled loop, metrics between them.

The batches and the noise of a step are functions of a key and the number of the step, and
the state holds all else, so that a run which goes on from a saved state equals the
uninterrupted one bit for bit. One program takes any number of steps, so that it does not
matter how they are cut into chunks either.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ..data.dataset import Dataset, Split
from ..models.networks import InitParams, Predict, build_network
from ..parallel import from_first_process
from ..programs import compiled
from ..settings import (
    DataSettings,
    MethodSettings,
    ModelSettings,
    Settings,
    TrainingSettings,
)
from .batches import RandomStreams
from .evaluation import Scores, evaluate
from .steps import build_gradient, build_optimizer, gradient_point

_SECONDS_A_CHUNK = 1.0


class StepMetrics(NamedTuple):
    """What the steps since the last evaluation report, one entry a step."""

    loss: jax.Array  # dtype=float32, plain mean over a batch, where its gradient is
    update_norm: jax.Array  # dtype=float32, before truncation
    truncated: jax.Array  # dtype=int32, 1 where the update was truncated


class TrainState(NamedTuple):
    """All that a step reads and writes."""

    step: jax.Array  # shape=(), dtype=int32, number of steps done
    params: Any  # a pytree of arrays
    opt_state: optax.OptState
    recent: StepMetrics  # shape=(evaluation_steps,); step t is at t modulo that


class Metrics(NamedTuple):
    """What is recorded at an evaluation; losses are plain means in nats."""

    step: int  # number of steps done
    batch_loss: float  # mean over the steps since the last evaluation
    train_loss: float  # on all training images, with the labels trained on
    train_accuracy: float  # share of those labels that are matched
    test_loss: float
    test_accuracy: float
    update_norm: float  # median over these steps of the norm before truncation
    largest_update_norm: float  # largest one of these steps
    truncated: float  # share of these steps that were truncated
    max_norm: float  # bound of the update norm after these steps; NaN without one
    seconds: float  # time taken so far, without compilation

    @property
    def is_finite(self) -> bool:
        """Whether the run has not diverged up to here."""
        return math.isfinite(self.batch_loss) and math.isfinite(self.train_loss)


class Chunk(NamedTuple):
    """The outcome of a chunk of steps."""

    state: TrainState
    step: int  # number of steps done
    batch_loss: float  # mean over the chunk
    seconds: float  # time taken so far, without compilation
    speed: float  # steps a second since the start, without evaluations
    seconds_left: float  # evaluations included, if there has been one
    metrics: Metrics | None  # at an evaluation
    bad_loss: float | None  # of this step, the first that is not finite; the last chunk


TakeSteps = Callable[
    [TrainState, RandomStreams, Split, int | np.integer | jax.Array], TrainState
]


class Trainer(NamedTuple):
    """The functions that a run is made of; they depend on no seed."""

    init: Callable[[RandomStreams], TrainState]
    take_steps: TakeSteps  # so many, or up to the first bad loss; donates the state
    evaluate: jax.stages.Wrapped  # parameters and a split -> `Scores`, compiled


def build_trainer(
    settings: Settings,
    image_shape: tuple[int, ...],
    classes: int,
    mesh: Mesh | None = None,
) -> Trainer:
    """The initial state, the compiled steps and the compiled evaluation of a run."""
    data, model, training = settings.data, settings.model, settings.training
    return _build(data, model, training, settings.method, image_shape, classes, mesh)


@functools.lru_cache(maxsize=16)
def _build(
    data: DataSettings,
    model: ModelSettings,
    training: TrainingSettings,
    method: MethodSettings,
    image_shape: tuple[int, ...],
    classes: int,
    mesh: Mesh | None,
) -> Trainer:
    network = model, image_shape, classes, data.pixel_range
    predict, init_params = build_network(*network)
    init_weights, of_params = _of_network(predict, init_params, mesh)
    predict_in_steps, _ = build_network(*network, training.precision)
    gradient = build_gradient(data, training, method, predict_in_steps, mesh)
    capacity = training.evaluation_steps(data.evaluated_images)

    @functools.partial(jax.jit, donate_argnums=0)
    def first_state(params: Any, noise: jax.Array) -> TrainState:
        recent = StepMetrics(
            jnp.zeros(capacity), jnp.zeros(capacity), jnp.zeros(capacity, jnp.int32)
        )
        opt_state = build_optimizer(training, method, noise).init(params)
        return TrainState(jnp.zeros((), jnp.int32), params, opt_state, recent)

    def init(keys: RandomStreams) -> TrainState:
        return first_state(init_weights(keys.weights), keys.noise)

    def take_step(state: TrainState, keys: RandomStreams, train: Split) -> TrainState:
        point = gradient_point(method, state.params, state.opt_state)
        loss, grads = gradient(point, train, state.step, keys)

        def gradient_at(params: Any, _: int) -> Any:
            return gradient(params, train, state.step, keys)[1]

        optimizer = build_optimizer(training, method, keys.noise)
        updates, opt_state = optimizer.update(
            grads, state.opt_state, state.params, grad_fn=gradient_at
        )
        params = optax.apply_updates(state.params, updates)
        metrics = _step_metrics(loss, updates, state.opt_state, opt_state)
        recent = jax.tree.map(
            lambda values, value: values.at[state.step % capacity].set(value),
            state.recent,
            metrics,
        )
        return TrainState(state.step + 1, params, opt_state, recent)

    def take_steps(
        state: TrainState, keys: RandomStreams, train: Split, number: jax.Array
    ) -> TrainState:
        def goes_on(carry: tuple[TrainState, jax.Array]) -> jax.Array:
            state, is_finite = carry
            return is_finite & (state.step < last)

        def body(carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
            state = take_step(carry[0], keys, train)
            loss = state.recent.loss[(state.step - 1) % capacity]
            return state, jnp.isfinite(loss)

        # Where a run has diverged must not depend on how it was cut into chunks.
        last = state.step + number
        return jax.lax.while_loop(goes_on, body, (state, jnp.bool_(True)))[0]

    return Trainer(init, compiled(take_steps, donate_argnums=0), of_params)


@functools.lru_cache(maxsize=4)
def _of_network(
    predict: Predict, init_params: InitParams, mesh: Mesh | None
) -> tuple[Callable[[jax.Array], Any], jax.stages.Wrapped]:
    """The compiled programs that all methods share: first weights, and evaluation."""
    of_params = functools.partial(evaluate, predict, mesh=mesh)
    return jax.jit(init_params), compiled(of_params)


def train(
    settings: Settings,
    dataset: Dataset,
    trainer: Trainer,
    state: TrainState,
    keys: RandomStreams,
    seconds: float = 0.0,
) -> Iterator[Chunk]:
    """Trains from a state to the last step, or to the first bad loss, in chunks."""
    steps, every = settings.training.steps, settings.evaluation_steps
    first = done = int(state.step)
    if done >= steps:
        return
    # Compiled now, so as not to count as time of the first chunk.
    state = trainer.take_steps(state, keys, dataset.train, np.int32(0))
    for split in (dataset.train, dataset.test):
        trainer.evaluate.lower(state.params, split).compile()
    number, seconds_of_steps, seconds_of_evaluations = 1, 0.0, []
    while done < steps:
        last = done - done % every
        next_evaluation = min(last + every, steps)
        end = int(min(next_evaluation, settings.following.next_due(done)))
        number = from_first_process(min(number, end - done))
        started = time.perf_counter()
        state = trainer.take_steps(state, keys, dataset.train, np.int32(number))
        reached = int(state.step)
        recent = _first(reached - last, jax.device_get(state.recent))
        taken = time.perf_counter() - started
        metrics = None
        bad_loss = None if np.isfinite(recent.loss[-1]) else float(recent.loss[-1])
        if reached == next_evaluation or bad_loss is not None:
            scores = _scores(dataset, trainer, state)
            total = time.perf_counter() - started
            seconds_of_evaluations.append(total - taken)
            metrics = _summary(state, recent, *scores, seconds + total)
            if bad_loss is None and not np.isfinite(metrics.train_loss):
                bad_loss = metrics.train_loss
        seconds += time.perf_counter() - started
        seconds_of_steps += taken
        loss = float(np.mean(recent.loss[done - last :]))
        speed = (reached - done) / max(taken, 1e-9)
        number = max(1, min(round(speed * _SECONDS_A_CHUNK), 4 * number))
        done = reached
        mean_speed = (done - first) / max(seconds_of_steps, 1e-9)
        left = (steps - done) / mean_speed
        # Before the first evaluation nobody knows how long one takes.
        if seconds_of_evaluations and done < steps:
            evaluations_left = math.ceil(steps / every) - done // every
            left += evaluations_left * float(np.mean(seconds_of_evaluations))
        yield Chunk(state, done, loss, seconds, mean_speed, left, metrics, bad_loss)
        if bad_loss is not None:
            return


def evaluation_at(
    settings: Settings,
    dataset: Dataset,
    trainer: Trainer,
    state: TrainState,
    seconds: float,
) -> Metrics | None:
    """The metrics of the step that a state is at; None between two evaluations."""
    done, every = int(state.step), settings.evaluation_steps
    if done == 0 or (done % every and done != settings.training.steps):
        return None
    last = done - 1 - (done - 1) % every
    recent = _first(done - last, jax.device_get(state.recent))
    return _summary(state, recent, *_scores(dataset, trainer, state), seconds)


def _scores(dataset: Dataset, trainer: Trainer, state: TrainState) -> list[Scores]:
    splits = (dataset.train, dataset.test)
    return jax.device_get([trainer.evaluate(state.params, split) for split in splits])


def _first(number: int, steps: StepMetrics) -> StepMetrics:
    return jax.tree.map(lambda values: values[:number], steps)


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
    state: TrainState, steps: StepMetrics, train: Scores, test: Scores, seconds: float
) -> Metrics:
    return Metrics(
        step=int(state.step),
        batch_loss=float(np.mean(steps.loss)),
        train_loss=float(train.loss),
        train_accuracy=float(train.accuracy),
        test_loss=float(test.loss),
        test_accuracy=float(test.accuracy),
        update_norm=float(np.median(steps.update_norm)),
        largest_update_norm=float(np.max(steps.update_norm)),
        truncated=float(np.mean(steps.truncated)),
        max_norm=float(optax.tree.get(state.opt_state, "max_norm", math.nan)),
        seconds=seconds,
    )
