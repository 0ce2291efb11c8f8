"""The batches of a step: which ones, how large, and their drawing."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax.experiments.configuration.methods import BatchName, Method
from heavytail_optax.experiments.configuration.settings import Settings
from heavytail_optax.experiments.data import Split
from heavytail_optax.experiments.training.augmentation import augment
from heavytail_optax.experiments.training.random_streams import RandomStreams


class Batch(NamedTuple):
    """Which images, not yet the images: those are fetched where they are needed."""

    places: jax.Array  # shape=(n,), dtype=int32, in the split drawn from
    keys: jax.Array | None  # shape=(n,), typed, of each image's augmentation


def draw_places(
    key: jax.Array, step: jax.Array, num_examples: int, size: int
) -> jax.Array:
    """Places without replacement, a function of the key and the step alone.

    Args:
      key: a typed key, the same in all steps.
      step: number of the step, an integer scalar.
      num_examples: number of images to draw from.
      size: number of images, at most `num_examples`.

    Returns:
      `size` different integers from 0 to `num_examples - 1`; in order if that is all
      of them.
    """
    if size == num_examples:
        return jnp.arange(num_examples)
    permutation = jax.random.permutation(jax.random.fold_in(key, step), num_examples)
    return permutation[:size]


def fetch(train: Split, batch: Batch) -> Split:
    """The images of a batch, augmented where it has keys, with their labels.

    Args:
      train: the images that were drawn from.
      batch: n of them.

    Returns:
      n images and their labels.
    """
    images, labels = train.images[batch.places], train.labels[batch.places]
    if batch.keys is not None:
        images = augment(batch.keys, images)
    return Split(images, labels)


def draw_batches(
    names: Sequence[BatchName],
    settings: Settings,
    keys: RandomStreams,
    step: jax.Array,
    num_examples: int,
) -> list[Batch]:
    """The batches of a step, drawn independently of each other.

    Args:
      names: of the batches.
      settings: `batch_size`, `large_batch_size` and `augmentation` count.
      keys: of the run; each batch has its own.
      step: number of the step, an integer scalar.
      num_examples: number of images to draw from.

    Returns:
      One batch for each name, with keys where the settings ask for augmentation.
    """
    streams = {
        "small": keys.batches,
        "second-small": keys.second_batches,
        "large": keys.large_batches,
    }
    key = jax.random.fold_in(keys.augmentation, step)

    def draw(number: int, name: BatchName) -> Batch:
        size = batch_size(name, settings)
        places = draw_places(streams[name], step, num_examples, size)
        if settings.augmentation == "none":
            return Batch(places, None)
        return Batch(places, jax.random.split(jax.random.fold_in(key, number), size))

    return [draw(number, name) for number, name in enumerate(names)]


def batch_size(name: BatchName, settings: Settings) -> int:
    """Number of images of a batch."""
    return settings.large_batch_images if name == "large" else settings.batch_size


def examples_per_step(method: Method, settings: Settings) -> float:
    """Images that a step of a method has to process, on average over the gate.

    Example:
      >>> import dataclasses
      >>> from heavytail_optax.experiments.configuration.methods import METHODS
      >>> from heavytail_optax.experiments.configuration.presets import PRESETS
      >>> settings = PRESETS["corrupted-digits"].settings
      >>> examples_per_step(METHODS["balanced"], settings)
      100.0
      >>> examples_per_step(METHODS["independent"], settings)
      1400.0
      >>> gated = dataclasses.replace(settings, inflate_above=0.5)
      >>> examples_per_step(METHODS["independent"], gated)
      750.0
    """
    first, *others = (batch_size(name, settings) for name in method.batches)
    passes = 2 if method.climbs else 1
    return passes * first + (1.0 - settings.inflate_above) * sum(others)
