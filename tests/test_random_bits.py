import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32 as jax_threefry_2x32

from heavytail_optax import _random
from heavytail_optax._random import random_words, threefry_2x32

ONES = 0xFFFFFFFF


def as_words(*values):
    return tuple(jnp.asarray(value, jnp.uint32) for value in values)


# Random123, tests/kat_vectors: threefry2x32, 20 rounds.
@pytest.mark.parametrize(
    "key, counter, expected",
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
        (
            (0x13198A2E, 0x03707344),
            (0x243F6A88, 0x85A308D3),
            (0xC4923A9C, 0x483DF7A0),
        ),
    ],
)
def test_known_answers(key, counter, expected):
    words = threefry_2x32(as_words(*key), as_words(*counter))
    assert tuple(int(word) for word in words) == expected


def test_same_words_as_jax():
    rng = np.random.default_rng(0)
    key = rng.integers(2**32, size=2, dtype=np.uint32)
    counter = rng.integers(2**32, size=(2, 1000), dtype=np.uint32)
    words = threefry_2x32(as_words(*key), as_words(*counter))
    expected = jax_threefry_2x32(jnp.asarray(key), jnp.asarray(counter.ravel()))
    np.testing.assert_array_equal(jnp.concatenate(words), expected)


@pytest.mark.parametrize("seed", [0, 1, 123456789])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (1, 5), (3, 1, 4), (2, 3, 5, 7)])
def test_exclusive_or_is_jax_random_bits(seed, shape):
    key = jax.random.key(seed)
    high, low = random_words(key, shape)
    assert high.shape == low.shape == shape
    assert high.dtype == low.dtype == jnp.uint32
    np.testing.assert_array_equal(high ^ low, jax.random.bits(key, shape))


def test_words_do_not_depend_on_jit_or_on_vmap():
    keys = jax.random.split(jax.random.key(3), 4)
    stacked = [jnp.stack(x) for x in zip(*(random_words(key, (5,)) for key in keys))]
    for draw in (jax.vmap, lambda f: jax.jit(jax.vmap(f))):
        got = draw(lambda key: random_words(key, (5,)))(keys)
        jax.tree.map(np.testing.assert_array_equal, tuple(got), tuple(stacked))


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_other_implementations_give_two_different_words(implementation):
    high, low = random_words(jax.random.key(0, impl=implementation), (1000,))
    assert high.dtype == low.dtype == jnp.uint32
    other = random_words(jax.random.key(0, impl=implementation), (1000,), pair=1)
    assert len(np.unique(np.concatenate([high, low, *other]))) > 3990
    again = random_words(jax.random.key(0, impl=implementation), (1000,))
    np.testing.assert_array_equal(high, again[0])


def test_no_counter_comes_twice(monkeypatch):
    # The limit of one word lowered from 2^32, so that shapes exceed it.
    monkeypatch.setattr(_random, "_NUM_COUNTS", 60)
    for shape in [(), (1,), (60,), (61,), (4, 15), (3, 5, 7), (2, 3, 4, 5), (7, 1, 11)]:
        high, low = _random._counters(shape, None)
        assert high.shape == low.shape == shape
        pairs = set(zip(np.ravel(high).tolist(), np.ravel(low).tolist()))
        assert len(pairs) == np.prod(shape)
        if np.prod(shape) <= 60:
            # As `jax.random.bits` counts.
            np.testing.assert_array_equal(np.ravel(low), np.arange(np.prod(shape)))
            assert not np.any(high)
        elif len(shape) > 1:
            # Only the dimensions in front of those that fit go into the high word.
            assert np.any(high) and np.max(low) < 60


@pytest.mark.parametrize("shape", [(2**16, 2**17), (3, 2**31, 2), (2**32, 3)])
def test_more_than_a_word_of_elements_can_be_traced(shape):
    draw = jax.eval_shape(lambda key: random_words(key, shape), jax.random.key(0))
    assert all(word.shape == shape and word.dtype == jnp.uint32 for word in draw)
