"""The gradient of each method: plain or tail-inflated."""

import math
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh

import heavytail_optax as hto

from ..data.dataset import Split
from ..models.networks import Predict
from ..settings import DataSettings, MethodSettings, TrainingSettings
from .batches import Batch, RandomStreams, batch_sizes, draw_batches
from .evaluation import IMAGES_IN_CPU_CACHE, batch_losses
from .optimizers import until_cooldown

Gradient = Callable[[Any, Split, jax.Array, RandomStreams], tuple[jax.Array, Any]]
_Losses = Callable[[Any, Batch], jax.Array]


def build_gradient(
    data: DataSettings,
    training: TrainingSettings,
    method: MethodSettings,
    predict: Predict,
    mesh: Mesh | None = None,
) -> Gradient:
    """The loss and the gradient of a step, on batches drawn for it."""
    losses_of = batch_losses(predict, mesh)
    sizes = batch_sizes(data, training, method)
    part = None
    if jax.default_backend() == "cpu":  # images a pass, in parts of one size
        devices = 1 if mesh is None else mesh.size
        at_once = min(IMAGES_IN_CPU_CACHE, training.batch_size) * devices
        images = sum(sizes.values())
        part = math.ceil(images / math.ceil(images / at_once))
    scale = until_cooldown(method.inflation_scale, method.noisy_steps(training.steps))
    is_normal = method.inflation_law == "normal"
    law = hto.tails.gaussian() if is_normal else hto.tails.pareto(method.alpha)

    def gradient(
        params: Any, train: Split, step: jax.Array, keys: RandomStreams
    ) -> tuple[jax.Array, Any]:
        num_examples = train.labels.shape[0]
        batches = draw_batches(sizes, data.augmentation, keys, step, num_examples)

        def losses(params: Any, batch: Batch) -> jax.Array:
            return losses_of((params, train), batch)

        if method.kind.scheme is None:
            return _plain(losses, part, params, *batches)
        of_batches = hto.tail_inflated_value_and_grad(
            losses,
            law,
            scale,
            scheme=method.kind.scheme,
            inflate_above=method.inflate_above,
            microbatch_size=part,
        )
        key = jax.random.fold_in(keys.inflation, step)
        return of_batches(key, params, *batches, step=step)

    return gradient


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
