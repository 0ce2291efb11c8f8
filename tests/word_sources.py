"""Words of chosen values in place of random ones: the extremes and far tail of a law."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax._random import random_words

_TOP = 2**32 - 1
_EXTREMES = (0, 1, 2**31 - 1, 2**31, _TOP - 1, _TOP)
_PAIRS = np.asarray(list(itertools.product(_EXTREMES, _EXTREMES)), np.uint32)

NUM_EXTREMES = len(_PAIRS)


def use_extreme_words(monkeypatch, module):
    """Makes `module` draw every combination of extreme words.

    Returns:
      The shape to sample: an axis for the first pair of words that a draw takes, and one
      for the second.
    """
    shape = (NUM_EXTREMES, NUM_EXTREMES)
    axes = itertools.cycle([0, 1])

    def words(key, got_shape, out_sharding=None, *, pair=0):
        del key, out_sharding, pair
        assert got_shape == shape
        pairs = np.expand_dims(_PAIRS, 1 - next(axes))
        high, low = np.broadcast_to(pairs, (*shape, 2)).transpose(2, 0, 1)
        return jnp.asarray(high), jnp.asarray(low)

    monkeypatch.setattr(module, "random_words", words)
    return shape


def use_small_words(monkeypatch, module):
    """Makes `module` draw its first pair of words below `2^-32`: the high word zero."""
    is_first = itertools.cycle([True, False])

    def words(key, shape, out_sharding=None, *, pair=0):
        high, low = random_words(key, shape, out_sharding, pair=pair)
        return (jnp.zeros_like(high) if next(is_first) else high), low

    monkeypatch.setattr(module, "random_words", words)


def eager_sample(tail, seed, shape, dtype=jnp.float32):
    """A sample as a NumPy array of float64."""
    return np.asarray(tail.sample(jax.random.key(seed), shape, dtype)).astype(float)
