import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32 as jax_threefry_2x32
from key_implementations import each_counter_based, each_other

from heavytail_optax import _random
from heavytail_optax._counter_based import FOUR_WORDS, TWO_WORDS, threefry_2x32
from heavytail_optax._random import random_words

# Random123, tests/kat_vectors: for counters and keys of zeros, of ones, and of the digits
# of pi. Threefry with 20 rounds, Philox with 10.
KNOWN_ANSWERS = {
    "threefry2x32": (
        (0x6B200159, 0x99BA4EFE),
        (0x1CB996FC, 0xBB002BE7),
        (0xC4923A9C, 0x483DF7A0),
    ),
    "threefry4x32": (
        (0x9C6CA96A, 0xE17EAE66, 0xFC10ECD4, 0x5256A7D8),
        (0x2A881696, 0x57012287, 0xF6C7446E, 0xA16A6732),
        (0x59CD1DBB, 0xB8879579, 0x86B5D00C, 0xAC8B6D84),
    ),
    "philox2x32": (
        (0xFF1DAE59, 0x6CD10DF2),
        (0x2C3F628B, 0xAB4FD7AD),
        (0xDD7CE038, 0xF62A4C12),
    ),
    "philox4x32": (
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}
KEY_WORDS = {"threefry2x32": 2, "threefry4x32": 4, "philox2x32": 1, "philox4x32": 2}
PI = (
    *(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
    *(0xA4093822, 0x299F31D0, 0x082EFA98, 0xEC4E6C89),
)


def as_words(values):
    return tuple(jnp.asarray(value, jnp.uint32) for value in values)


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_known_answers(name):
    generator = {**TWO_WORDS, **FOUR_WORDS}[name]
    length = KEY_WORDS[name]
    for digits, expected in zip(
        ((0,) * 8, (0xFFFFFFFF,) * 8, PI), KNOWN_ANSWERS[name], strict=True
    ):
        counter, rest = digits[: len(expected)], digits[len(expected) :]
        words = generator(as_words(rest[:length]), as_words(counter))
        assert tuple(int(word) for word in words) == expected


def test_same_words_as_jax():
    rng = np.random.default_rng(0)
    key = rng.integers(2**32, size=2, dtype=np.uint32)
    counter = rng.integers(2**32, size=(2, 1000), dtype=np.uint32)
    words = threefry_2x32(as_words(key), as_words(counter))
    expected = jax_threefry_2x32(jnp.asarray(key), jnp.asarray(counter.ravel()))
    np.testing.assert_array_equal(jnp.concatenate(words), expected)


@each_counter_based
@pytest.mark.parametrize("seed", [0, 1, 123456789])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (1, 5), (3, 1, 4), (2, 3, 5, 7)])
def test_exclusive_or_is_jax_random_bits(seed, shape, implementation):
    key = jax.random.key(seed, impl=implementation)
    words = random_words(key, shape)
    assert all(word.shape == shape and word.dtype == jnp.uint32 for word in words)
    if implementation in FOUR_WORDS:
        words += random_words(key, shape, pair=1)
    combined = np.bitwise_xor.reduce(np.stack(words))
    np.testing.assert_array_equal(combined, jax.random.bits(key, shape))


@each_counter_based
def test_words_do_not_depend_on_jit_or_on_vmap(implementation):
    keys = jax.random.split(jax.random.key(3, impl=implementation), 4)
    for pair in (0, 1):

        def words(key, pair=pair):
            return random_words(key, (5,), pair=pair)

        stacked = [jnp.stack(x) for x in zip(*map(words, keys))]
        for draw in (jax.vmap(words), jax.jit(jax.vmap(words))):
            got = draw(keys)
            jax.tree.map(np.testing.assert_array_equal, tuple(got), tuple(stacked))


@each_other
def test_other_implementations_draw_both_pairs_from_bits(implementation):
    key = jax.random.key(0, impl=implementation)
    words = random_words(key, (1000,)) + random_words(key, (1000,), pair=1)
    assert all(word.dtype == jnp.uint32 for word in words)
    for word, own in zip(words, jax.random.split(key, 4), strict=True):
        np.testing.assert_array_equal(word, jax.random.bits(own, (1000,)))
    assert len(np.unique(np.concatenate(words))) > 3990


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
