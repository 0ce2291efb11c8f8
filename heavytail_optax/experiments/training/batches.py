"""What is random in a step: the keys of a seed, the batches, and their augmentation."""

from collections.abc import Mapping
from typing import NamedTuple

import dm_pix
import jax
import jax.numpy as jnp

from ..data.dataset import Split
from ..methods import BatchName
from ..settings import DataSettings, MethodSettings, Settings, TrainingSettings

PADDING = 4


class RandomStreams(NamedTuple):
    """One key for each use of randomness in a run, so that none disturbs another."""

    labels: jax.Array
    weights: jax.Array
    batches: jax.Array
    noise: jax.Array
    second_batches: jax.Array
    large_batches: jax.Array
    inflation: jax.Array
    sharpness: jax.Array
    augmentation: jax.Array


def random_streams(seed: int) -> RandomStreams:
    """The keys of a run.

    Methods that run with the same seed see the same labels, initial weights and batches.
    """
    key = jax.random.key(seed)
    return RandomStreams(*jax.random.split(key, len(RandomStreams._fields)))


class Batch(NamedTuple):
    """Which images, not yet the images: those are fetched where they are needed."""

    places: jax.Array  # shape=(n,), dtype=int32, in the split drawn from
    keys: jax.Array | None  # shape=(n,), typed, of each image's augmentation


def draw_places(
    key: jax.Array, step: jax.Array, num_examples: int, size: int
) -> jax.Array:
    """Places without replacement, a function of the key and the step alone."""
    if size == num_examples:
        return jnp.arange(num_examples)
    permutation = jax.random.permutation(jax.random.fold_in(key, step), num_examples)
    return permutation[:size]


def draw_batches(
    sizes: Mapping[BatchName, int],
    augmentation: str,
    keys: RandomStreams,
    step: jax.Array,
    num_examples: int,
) -> list[Batch]:
    """The batches of a step, drawn independently of each other."""
    streams = {
        "small": keys.batches,
        "second-small": keys.second_batches,
        "large": keys.large_batches,
    }
    key = jax.random.fold_in(keys.augmentation, step)

    def draw(number: int, name: BatchName) -> Batch:
        size = sizes[name]
        places = draw_places(streams[name], step, num_examples, size)
        if augmentation == "none":
            return Batch(places, None)
        return Batch(places, jax.random.split(jax.random.fold_in(key, number), size))

    return [draw(number, name) for number, name in enumerate(sizes)]


def fetch(train: Split, batch: Batch) -> Split:
    """The images of a batch, augmented where it has keys, with their labels."""
    images, labels = train.images[batch.places], train.labels[batch.places]
    if batch.keys is not None:
        images = augment(batch.keys, images)
    return Split(images, labels)


def augment(keys: jax.Array, images: jax.Array) -> jax.Array:
    """Shifts each image by up to `PADDING` pixels and mirrors every second one.

    The window is one of the 9 x 9 of the image with a black border, all equally likely.
    """
    border = [(0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)]
    padded = jnp.pad(images, border)

    def crop_and_flip(key: jax.Array, image: jax.Array) -> jax.Array:
        crop_key, flip_key = jax.random.split(key)
        image = dm_pix.random_crop(crop_key, image, images.shape[1:])
        return dm_pix.random_flip_left_right(flip_key, image)

    return jax.vmap(crop_and_flip)(keys, padded)


def batch_sizes(
    data: DataSettings, training: TrainingSettings, method: MethodSettings
) -> dict[BatchName, int]:
    """Number of images of each batch of a method, in the order of its batches."""
    large = method.large_batch_images(data.training_examples)
    return {
        name: large if name == "large" else training.batch_size
        for name in method.kind.batches
    }


def examples_per_step(settings: Settings) -> float:
    """Images that a step has to process, on average over the gate."""
    method = settings.method
    sizes = batch_sizes(settings.data, settings.training, method)
    first, *others = sizes.values()
    return method.kind.passes * first + (1.0 - method.inflate_above) * sum(others)
