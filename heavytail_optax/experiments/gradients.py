"""The gradient of each method: plain or tail-inflated."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

import heavytail_optax as hto
from heavytail_optax.experiments.batches import draw_batches
from heavytail_optax.experiments.cooldown import until_cooldown
from heavytail_optax.experiments.data import Split
from heavytail_optax.experiments.evaluation import loss_per_example
from heavytail_optax.experiments.methods import Method
from heavytail_optax.experiments.models import Predict
from heavytail_optax.experiments.random_streams import RandomStreams
from heavytail_optax.experiments.settings import Settings

Gradient = Callable[[Any, Split, jax.Array, RandomStreams], tuple[jax.Array, Any]]


def build_gradient(method: Method, settings: Settings, predict: Predict) -> Gradient:
    """The loss and the gradient of a step, on batches drawn for it.

    Args:
      method: whose `batches` and `scheme` count.
      settings: of the job.
      predict: gives logits of shape (n, classes) for parameters and images.

    Returns:
      A function of the parameters, the training images, the number of the step and the
      keys of the run, to the plain mean loss over the first batch and the gradient.
    """
    losses = functools.partial(loss_per_example, predict)
    if method.scheme is None:
        of_batches = _plain(losses, settings)
    else:
        of_batches = _inflated(losses, method.scheme, settings)

    def gradient(
        params: Any, train: Split, step: jax.Array, keys: RandomStreams
    ) -> tuple[jax.Array, Any]:
        batches = draw_batches(method.batches, settings, keys, step, train)
        return of_batches(params, batches, step, keys.inflation)

    return gradient


_Losses = Callable[[Any, Split], jax.Array]
_OfBatches = Callable[
    [Any, Sequence[Split], jax.Array, jax.Array], tuple[jax.Array, Any]
]


def _microbatch_size(settings: Settings) -> int | None:
    """How many images to pass through at a time: on a CPU, those of a small batch.

    More of them take longer an image: `benchmarks/tail_inflation.py`.
    """
    return settings.batch_size if jax.default_backend() == "cpu" else None


def _plain(losses: _Losses, settings: Settings) -> _OfBatches:
    mean_and_gradient = jax.value_and_grad(
        lambda params, batch: losses(params, batch).mean()
    )
    part = _microbatch_size(settings)

    def of_batches(
        params: Any, batches: Sequence[Split], step: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Any]:
        del step, key
        (batch,) = batches
        number = batch.labels.shape[0]
        is_split = part is not None and number > part and number % part == 0
        return optax.microbatch(
            mean_and_gradient,
            argnums=1,
            microbatch_size=part if is_split else None,
            accumulator=optax.microbatching.AccumulationType.MEAN,
        )(params, batch)

    return of_batches


def _inflated(losses: _Losses, scheme: str, settings: Settings) -> _OfBatches:
    gradient = hto.tail_inflated_grad(
        losses,
        hto.tails.pareto(settings.alpha),
        until_cooldown(settings.inflation_scale, settings),
        scheme=scheme,
        inflate_above=settings.inflate_above,
        microbatch_size=_microbatch_size(settings),
    )

    def of_batches(
        params: Any, batches: Sequence[Split], step: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Any]:
        return gradient(jax.random.fold_in(key, step), params, *batches, step=step)

    return of_batches
