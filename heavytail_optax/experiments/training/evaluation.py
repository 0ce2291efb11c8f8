"""Plain loss and accuracy on a whole split."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from optax.losses import softmax_cross_entropy_with_integer_labels as cross_entropy

from heavytail_optax.experiments.data.dataset import Split
from heavytail_optax.experiments.models.networks import Predict

_IMAGES_AT_ONCE = 256


class Scores(NamedTuple):
    """Means over a split."""

    loss: jax.Array  # shape=(), dtype=float32, cross-entropy in nats
    accuracy: jax.Array  # shape=(), dtype=float32, from 0 to 1


def loss_per_example(predict: Predict, params: Any, split: Split) -> jax.Array:
    """Cross-entropy of each image."""
    logits = predict(params, split.images)
    return cross_entropy(logits, split.labels)


def evaluate(predict: Predict, params: Any, split: Split) -> Scores:
    """Loss and accuracy over all images, in pieces that bound the memory."""

    n = split.labels.shape[0]
    padding = -n % _IMAGES_AT_ONCE

    def in_pieces(array: jax.Array) -> jax.Array:
        padded = jnp.pad(array, [(0, padding)] + [(0, 0)] * (array.ndim - 1))
        return padded.reshape(-1, _IMAGES_AT_ONCE, *array.shape[1:])

    def scores_of(piece: Split) -> Scores:
        logits = predict(params, piece.images)
        losses = cross_entropy(logits, piece.labels)
        return Scores(losses, (logits.argmax(-1) == piece.labels).astype(jnp.float32))

    pieces = jax.lax.map(scores_of, jax.tree.map(in_pieces, split))
    return Scores(*(score.reshape(-1)[:n].mean() for score in pieces))


def accuracy_error(accuracy: float, images: int) -> float:
    """Binomial standard error of an accuracy on independent images.

    Example:
      >>> accuracy_error(0.8, 400)
      0.02
    """
    return math.sqrt(accuracy * (1 - accuracy) / images)
