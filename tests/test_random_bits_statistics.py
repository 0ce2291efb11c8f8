"""The random words as a sample: fair, even, and independent along every direction.

Each test is done with keys of every implementation. It is one hypothesis over all its
cases, which right words fail for one key in a million (`FALSE_ALARM_RATE`, Bonferroni
over the cases included). Keys are fixed. Each
kind of test has a negative control: words wrong by as little as is said there, which it
must find.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from key_implementations import EVERY
from statistical_checks import (
    FALSE_ALARM_RATE,
    bonferroni,
    cells_p_value,
    counts_p_value,
    independence_p_value,
)

from heavytail_optax._keys import key_data_copy, step_key
from heavytail_optax._noise import _leaf_keys
from heavytail_optax._random import random_words

NUM_WORDS = 2**20
SEED = 11


def words_of(key, number=NUM_WORDS, pair=0):
    return [np.asarray(x) for x in random_words(key, (number,), pair=pair)]


def as_uniform(words):
    return words / 2.0**32


@pytest.fixture(scope="module", params=EVERY)
def implementation(request):
    return request.param


@pytest.fixture(scope="module")
def words(implementation):
    """The high and the low words of one key."""
    return words_of(jax.random.key(SEED, impl=implementation))


# Equidistribution


def fair_bits_p_value(words):
    """Each of the 32 bits is set in half of the words."""
    counts = [
        np.count_nonzero(word >> np.uint32(bit) & np.uint32(1))
        for word in words
        for bit in range(32)
    ]
    return counts_p_value(counts, words[0].size, 0.5)


def even_bytes_p_value(words):
    """Each of the four bytes takes its 256 values equally often."""
    return bonferroni(
        [
            cells_p_value(np.bincount(word >> np.uint32(shift) & np.uint32(255)))
            for word in words
            for shift in (0, 8, 16, 24)
        ]
    )


@pytest.mark.parametrize("p_value", [fair_bits_p_value, even_bytes_p_value])
def test_words_are_equidistributed(words, p_value):
    assert p_value(words) > FALSE_ALARM_RATE


@pytest.mark.parametrize("p_value", [fair_bits_p_value, even_bytes_p_value])
def test_a_bit_that_is_set_too_often_is_found(words, p_value):
    # Negative control: bit 13 of the low words is set in 51 % of them.
    is_changed = np.arange(NUM_WORDS) % 50 == 0
    wrong = np.where(is_changed, words[1] | np.uint32(2**13), words[1])
    assert p_value([words[0], wrong]) < FALSE_ALARM_RATE


# Serial independence, and that of the two words and of the two pairs of one element


def test_words_are_independent(words, implementation):
    key, other = (jax.random.key(SEED + i, impl=implementation) for i in (0, 1))
    high, low = map(as_uniform, words)
    bottom = (words[1] & np.uint32(0xFFFF)) / 2.0**16
    third, fourth = map(as_uniform, words_of(key, pair=1))
    after_other_key = as_uniform(words_of(other)[0])
    pairs = [
        (high, low),
        (high, bottom),
        (high[1:], high[:-1]),
        (low[1:], low[:-1]),
        (high[1:], low[:-1]),
        (high[1024:], high[:-1024]),
        (high, after_other_key),
        (high, third),
        (low, third),
        (high, fourth),
        (low, fourth),
        (third, fourth),
        (third[1:], third[:-1]),
        (high[1:], third[:-1]),
    ]
    p_values = [independence_p_value(u, v, num_cells=64) for u, v in pairs]
    assert bonferroni(p_values) > FALSE_ALARM_RATE


def test_dependent_words_are_found(words):
    # Negative control: one in twenty pairs is a copy.
    high, low = map(as_uniform, words)
    copied = np.where(np.arange(high.size) % 20 == 0, high, low)
    assert independence_p_value(high, copied, num_cells=64) < FALSE_ALARM_RATE


def triples_p_value(words):
    """Three words in a row, without overlap, fill a cube evenly."""
    cells = (words[: words.size // 3 * 3] >> np.uint32(28)).reshape(-1, 3)
    index = (cells[:, 0] * 16 + cells[:, 1]) * 16 + cells[:, 2]
    return cells_p_value(np.bincount(index, minlength=16**3))


def test_three_words_in_a_row_are_independent(words):
    p_values = [triples_p_value(word) for word in words]
    # The words of an element and the next one's.
    p_values.append(triples_p_value(np.stack(words, axis=-1).ravel()))
    assert bonferroni(p_values) > FALSE_ALARM_RATE


def randu(number):
    """The generator RANDU, `x <- 65539 x mod 2^31`: even pairs, triples on 15 planes."""
    words, x = [], 1
    for _ in range(number):
        x = 65539 * x % 2**31
        words.append(x)
    return np.asarray(words, np.uint32) << np.uint32(1)


def test_triples_on_planes_are_found():
    # Negative control: pairs do not show what is wrong with RANDU.
    wrong = randu(2**18)
    assert independence_p_value(wrong[::2] / 2.0**32, wrong[1::2] / 2.0**32) > 0.01
    assert triples_p_value(wrong) < FALSE_ALARM_RATE


# Neighbours: counters, seeds, leaves and steps that differ by one


def differing_bits_p_value(some, others):
    """The numbers of bits in which words differ are binomial: 32 fair coins."""
    counts = np.bincount(np.bitwise_count(some ^ others), minlength=33)
    law = scipy.stats.binom.pmf(np.arange(33), 32, 0.5)
    # Rare counts together, at either end.
    inner = slice(6, 27)
    return cells_p_value(
        [counts[:6].sum(), *counts[inner], counts[27:].sum()],
        [law[:6].sum(), *law[inner], law[27:].sum()],
    )


def keys_of_leaves(num_leaves, count, key):
    """The keys of the leaves at a step, as `add_heavy_tailed_noise` makes them."""
    this_step = step_key(key, key_data_copy(key), "noise", jnp.int32(count))
    return _leaf_keys(this_step, [()] * num_leaves)


@pytest.fixture(scope="module")
def training(implementation):
    """High words by step, leaf and element, and those of the next seed: 4, 4, 2^17."""

    def run(seed):
        key = jax.random.key(seed, impl=implementation)
        return np.stack(
            [
                [words_of(own, 2**17)[0] for own in keys_of_leaves(4, count, key)]
                for count in range(4)
            ]
        )

    return run(SEED), run(SEED + 1)


def test_neighbours_differ_in_half_of_the_bits(words, training):
    steps, other_seed = training
    pairs = [
        *((word[1:], word[:-1]) for word in words),
        (words[0], words[1]),
        (steps[:, 1:], steps[:, :-1]),
        (steps[1:], steps[:-1]),
        (steps, other_seed),
    ]
    p_values = [differing_bits_p_value(x.ravel(), y.ravel()) for x, y in pairs]
    assert bonferroni(p_values) > FALSE_ALARM_RATE


def test_neighbours_that_differ_in_too_few_bits_are_found():
    # Negative control: neighbours in a Weyl sequence differ by a constant.
    weyl = np.arange(NUM_WORDS, dtype=np.uint32) * np.uint32(0x9E3779B9)
    assert differing_bits_p_value(weyl[1:], weyl[:-1]) < FALSE_ALARM_RATE


def steps_p_value(steps):
    """Independence of all leaves and steps, at one index and at neighbouring ones."""
    streams = as_uniform(steps.reshape(-1, steps.shape[-1]))
    return bonferroni(
        [
            independence_p_value(u[lag:], v[: v.size - lag], num_cells=32)
            for u, v in itertools.permutations(streams, 2)
            for lag in (0, 1)
        ]
    )


def test_leaves_and_steps_are_independent(training):
    assert steps_p_value(training[0]) > FALSE_ALARM_RATE


def test_leaves_that_share_a_stream_are_found(training):
    # Negative control: a leaf with the key of another, read one element later.
    wrong = np.array(training[0])
    wrong[2, 3, :-1] = wrong[2, 1, 1:]
    assert steps_p_value(wrong) < FALSE_ALARM_RATE


def test_steps_with_the_key_of_another_leaf_are_found(training):
    # Negative control: step and leaf added to each other instead of folded in one by one.
    wrong = np.array(training[0])
    wrong[1, 0] = wrong[0, 1]
    assert steps_p_value(wrong) < FALSE_ALARM_RATE
