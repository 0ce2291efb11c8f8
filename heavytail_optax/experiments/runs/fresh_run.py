"""A short training run in memory, whose noise is followed by `track_tail_index`."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from heavytail_optax.experiments.data.dataset import Dataset, Split
from heavytail_optax.experiments.models.networks import build_network
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.settings import Settings, replaced
from heavytail_optax.experiments.training.batches import draw_places
from heavytail_optax.experiments.training.evaluation import loss_per_example
from heavytail_optax.experiments.training.random_streams import random_streams
from heavytail_optax.tail_index import TailIndex, track_tail_index, tracked_tail_index

_STEPS_AT_ONCE = 20


class FreshRun(NamedTuple):
    """Plain SGD from the initial weights on.

    Attributes:
      settings: of the run.
      params: after the last step.
      losses: of the batches. shape=(steps,).
      noise_norms: of half the difference of the gradients on the two halves of each
        batch. shape=(steps,).
      gradient_norms: of the gradient on the batch. shape=(steps,).
      tracked: Hill's estimate of all noise norms of the run, "all" and for each leaf.
    """

    settings: Settings
    params: Any
    losses: np.ndarray
    noise_norms: np.ndarray
    gradient_norms: np.ndarray
    tracked: dict[str, TailIndex]


def fresh_settings(steps: int) -> Settings:
    """SGD on the digits."""
    return replaced(
        PRESETS["corrupted-digits-short"].settings, method="sgd", steps=steps
    )


def train_fresh(
    settings: Settings, dataset: Dataset, tick: Callable[[int, int], bool]
) -> FreshRun | None:
    """Trains, and follows the tail of the noise's norm."""
    shape = dataset.train.images.shape[1:]
    predict, init_params = build_network(
        settings.model, shape, dataset.num_classes, settings.data.pixel_range
    )
    keys = random_streams(settings.seed)
    params = init_params(keys.weights)
    optimizer = optax.chain(
        track_tail_index(settings.training.steps // 10),
        optax.sgd(settings.training.learning_rate),
    )
    state = params, optimizer.init(params)
    train = jax.tree.map(jnp.asarray, dataset.train)

    def loss(params: Any, split: Split) -> jax.Array:
        return loss_per_example(predict, params, split).mean()

    @functools.partial(jax.jit, static_argnames="number")
    def take_steps(state, train, first, number):
        def take_step(state, step):
            params, opt_state = state
            places = draw_places(
                keys.batches, step, train.labels.shape[0], settings.training.batch_size
            )
            halves = [
                jax.value_and_grad(loss)(
                    params, Split(train.images[part], train.labels[part])
                )
                for part in jnp.split(places, 2)
            ]
            (one, grad), (other, other_grad) = halves
            mean = jax.tree.map(lambda x, y: 0.5 * (x + y), grad, other_grad)
            noise = jax.tree.map(lambda x, y: 0.5 * (x - y), grad, other_grad)
            updates, opt_state = optimizer.update(
                mean, opt_state, params, gradient_noise=noise
            )
            norms = optax.tree.norm(noise), optax.tree.norm(mean)
            new = optax.apply_updates(params, updates), opt_state
            return new, (0.5 * (one + other), *norms)

        return jax.lax.scan(take_step, state, first + jnp.arange(number))

    parts = []
    for done in range(0, settings.training.steps, _STEPS_AT_ONCE):
        if tick(done, settings.training.steps):
            return None
        number = min(_STEPS_AT_ONCE, settings.training.steps - done)
        state, part = take_steps(state, train, done, number)
        parts.append(jax.device_get(part))
    params, opt_state = state
    columns = (np.concatenate(each) for each in zip(*parts, strict=True))
    tracked = tracked_tail_index(opt_state, params)
    return FreshRun(settings, params, *columns, tracked)
