"""The gradient of each method: plain or tail-inflated."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh

import heavytail_optax as hto
from heavytail_optax.experiments.data import Split
from heavytail_optax.experiments.devices.parallel import spread
from heavytail_optax.experiments.models.networks import Predict
from heavytail_optax.experiments.settings import (
    DataSettings,
    MethodSettings,
    TrainingSettings,
)
from heavytail_optax.experiments.training.batches import (
    Batch,
    batch_sizes,
    draw_batches,
    fetch,
)
from heavytail_optax.experiments.training.cooldown import until_cooldown
from heavytail_optax.experiments.training.evaluation import loss_per_example
from heavytail_optax.experiments.training.random_streams import RandomStreams

Gradient = Callable[[Any, Split, jax.Array, RandomStreams], tuple[jax.Array, Any]]


def build_gradient(
    data: DataSettings,
    training: TrainingSettings,
    method: MethodSettings,
    predict: Predict,
    mesh: Mesh | None = None,
) -> Gradient:
    """The loss and the gradient of a step, on batches drawn for it."""

    # Each device fetches its images by itself: only their places are passed on.
    @functools.partial(spread, mesh)
    def losses_of(params_and_train: tuple[Any, Split], batch: Batch) -> jax.Array:
        params, train = params_and_train
        return loss_per_example(predict, params, fetch(train, batch))

    sizes = batch_sizes(data, training, method)
    at_once = min(_IMAGES_AT_ONCE, training.batch_size)
    part = _microbatch_size(sum(sizes.values()), at_once, mesh)
    noisy_steps = method.noisy_steps(training.steps)

    def gradient(
        params: Any, train: Split, step: jax.Array, keys: RandomStreams
    ) -> tuple[jax.Array, Any]:
        num_examples = train.labels.shape[0]
        batches = draw_batches(sizes, data.augmentation, keys, step, num_examples)

        def losses(params: Any, batch: Batch) -> jax.Array:
            return losses_of((params, train), batch)

        if method.kind.scheme is None:
            return _plain(losses, part, params, *batches)
        of_batches = _inflated(losses, method, noisy_steps, part)
        key = jax.random.fold_in(keys.inflation, step)
        return of_batches(key, params, *batches, step=step)

    return gradient


_Losses = Callable[[Any, Batch], jax.Array]
_IMAGES_AT_ONCE = 50


def _microbatch_size(images: int, at_once: int, mesh: Mesh | None) -> int | None:
    """How many images to pass through at a time, on all devices together.

    On a CPU 50 on each device, in parts of one size, as more of them are too large for
    the cache, and take up to 1.2 times as long an image. Elsewhere all.
    """
    if jax.default_backend() != "cpu":
        return None
    at_once *= 1 if mesh is None else mesh.size
    return math.ceil(images / math.ceil(images / at_once))


def _plain(
    losses: _Losses, part: int | None, params: Any, batch: Batch
) -> tuple[jax.Array, Any]:
    mean_and_gradient = jax.value_and_grad(
        lambda params, batch: losses(params, batch).mean()
    )
    number = batch.places.shape[0]
    is_split = part is not None and number > part and number % part == 0
    return optax.microbatch(
        mean_and_gradient,
        argnums=1,
        microbatch_size=part if is_split else None,
        accumulator=optax.microbatching.AccumulationType.MEAN,
    )(params, batch)


def _inflated(
    losses: _Losses, method: MethodSettings, noisy_steps: int, part: int | None
) -> Callable[..., tuple[jax.Array, Any]]:
    return hto.tail_inflated_value_and_grad(
        losses,
        _law(method),
        until_cooldown(method.inflation_scale, noisy_steps),
        scheme=method.kind.scheme,
        inflate_above=method.inflate_above,
        microbatch_size=part,
    )


def _law(method: MethodSettings) -> hto.tails.Tail:
    if method.inflation_law == "normal":
        return hto.tails.gaussian()
    return hto.tails.pareto(method.alpha)
