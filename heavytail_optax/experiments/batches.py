"""The batches of a step: which ones, how large, and their drawing."""

from collections.abc import Sequence

import jax

from heavytail_optax.experiments.augmentation import augment
from heavytail_optax.experiments.data import Split
from heavytail_optax.experiments.methods import BatchName, Method
from heavytail_optax.experiments.random_streams import RandomStreams
from heavytail_optax.experiments.settings import Settings


def draw_batch(key: jax.Array, step: jax.Array, split: Split, size: int) -> Split:
    """A batch without replacement, a function of the key and the step alone.

    Args:
      key: a typed key, the same in all steps.
      step: number of the step, an integer scalar.
      split: the images to draw from.
      size: number of images, at most those of `split`.

    Returns:
      `size` different images and their labels; `split` itself if that is all of them.
    """
    num_examples = split.labels.shape[0]
    if size == num_examples:
        return split
    permutation = jax.random.permutation(jax.random.fold_in(key, step), num_examples)
    chosen = permutation[:size]
    return Split(split.images[chosen], split.labels[chosen])


def draw_batches(
    names: Sequence[BatchName],
    settings: Settings,
    keys: RandomStreams,
    step: jax.Array,
    train: Split,
) -> list[Split]:
    """The batches of a step, drawn independently of each other.

    Args:
      names: of the batches.
      settings: `batch_size`, `large_batch_size` and `augmentation` count.
      keys: of the run; each batch has its own.
      step: number of the step, an integer scalar.
      train: the images to draw from.

    Returns:
      One batch for each name, augmented where the settings say so.
    """
    streams = {
        "small": keys.batches,
        "second-small": keys.second_batches,
        "large": keys.large_batches,
    }
    batches = [
        draw_batch(streams[name], step, train, batch_size(name, settings))
        for name in names
    ]
    if settings.augmentation == "none":
        return batches
    key = jax.random.fold_in(keys.augmentation, step)
    return [
        batch._replace(images=augment(jax.random.fold_in(key, number), batch.images))
        for number, batch in enumerate(batches)
    ]


def batch_size(name: BatchName, settings: Settings) -> int:
    """Number of images of a batch."""
    return settings.large_batch_images if name == "large" else settings.batch_size


def examples_per_step(method: Method, settings: Settings) -> float:
    """Images that a step of a method has to process, on average over the gate.

    Example:
      >>> import dataclasses
      >>> from heavytail_optax.experiments.methods import METHODS
      >>> from heavytail_optax.experiments.presets import PRESETS
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
    return first + (1.0 - settings.inflate_above) * sum(others)
