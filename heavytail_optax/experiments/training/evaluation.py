"""Losses and accuracies of images: of a batch, of a split, on one device or several."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from optax.losses import softmax_cross_entropy_with_integer_labels as cross_entropy

from heavytail_optax.flatness import mean_over_batches

from ..data.dataset import Split
from ..models.networks import Predict
from ..parallel import shard_over_devices
from .batches import Batch, fetch

IMAGES_AT_ONCE = 256
"""Images that a pass over a split takes at a time, which bounds the memory."""

IMAGES_IN_CPU_CACHE = 50
"""On a CPU more images than these take two to three times as long an image."""


class Scores(NamedTuple):
    """Means over a split."""

    loss: jax.Array  # shape=(), dtype=float32, cross-entropy in nats
    accuracy: jax.Array  # shape=(), dtype=float32, from 0 to 1


def loss_per_example(predict: Predict, params: Any, split: Split) -> jax.Array:
    """Cross-entropy of each image."""
    return cross_entropy(predict(params, split.images), split.labels)


def batch_losses(
    predict: Predict, mesh: Mesh | None
) -> Callable[[tuple[Any, Split], Batch], jax.Array]:
    """The losses of parameters on a batch that is drawn from a split."""

    # Each device fetches its images by itself: only their places are passed on.
    @functools.partial(shard_over_devices, mesh)
    def losses(params_and_train: tuple[Any, Split], batch: Batch) -> jax.Array:
        params, train = params_and_train
        return loss_per_example(predict, params, fetch(train, batch))

    return losses


@functools.lru_cache(maxsize=4)
def mean_loss_and_error(
    predict: Predict, mesh: Mesh | None
) -> tuple[Callable[[Any, Split], jax.Array], Callable[[Any, Split], jax.Array]]:
    """The mean loss of a split, and the share of it that is classified wrongly."""
    predict = shard_over_devices(mesh, predict)

    def loss(params: Any, split: Split) -> jax.Array:
        return loss_per_example(predict, params, split).mean()

    def error(params: Any, split: Split) -> jax.Array:
        classes = predict(params, split.images).argmax(-1)
        return (classes != split.labels).astype(jnp.float32).mean()

    at_once = _images_at_once(mesh)
    return mean_over_batches(loss, at_once), mean_over_batches(error, at_once)


def evaluate(
    predict: Predict, params: Any, split: Split, mesh: Mesh | None = None
) -> Scores:
    """Loss and accuracy over all images, in pieces that bound the memory."""
    predict = shard_over_devices(mesh, predict)
    n = split.labels.shape[0]
    at_once = _images_at_once(mesh)
    padding = -n % at_once

    def in_pieces(array: jax.Array) -> jax.Array:
        padded = jnp.pad(array, [(0, padding)] + [(0, 0)] * (array.ndim - 1))
        return padded.reshape(-1, at_once, *array.shape[1:])

    def scores_of(piece: Split) -> Scores:
        logits = predict(params, piece.images)
        losses = cross_entropy(logits, piece.labels)
        return Scores(losses, (logits.argmax(-1) == piece.labels).astype(jnp.float32))

    pieces = jax.lax.map(scores_of, jax.tree.map(in_pieces, split))
    return Scores(*(score.reshape(-1)[:n].mean() for score in pieces))


def _images_at_once(mesh: Mesh | None) -> int:
    is_cpu = jax.default_backend() == "cpu"
    on_each = IMAGES_IN_CPU_CACHE if is_cpu else IMAGES_AT_ONCE
    return on_each * (1 if mesh is None else mesh.size)
