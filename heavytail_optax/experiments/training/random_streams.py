"""The independent keys that one seed sets."""

from typing import NamedTuple

import jax


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
