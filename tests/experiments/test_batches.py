import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax.experiments.batches import (
    draw_batch,
    draw_batches,
    examples_per_step,
)
from heavytail_optax.experiments.data import Split
from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.random_streams import random_streams


def test_batches_are_without_replacement_and_cover_the_split():
    n = 50
    split = Split(jnp.arange(n, dtype=jnp.float32).reshape(n, 1, 1, 1), jnp.arange(n))
    draw = jax.jit(draw_batch, static_argnums=3)
    key = jax.random.key(0)
    batches = [draw(key, step, split, 10) for step in range(200)]
    for batch in batches:
        assert len(set(batch.labels.tolist())) == 10
        np.testing.assert_array_equal(batch.images.ravel(), batch.labels)
    counts = np.bincount(np.concatenate([batch.labels for batch in batches]))
    # Binomial with mean 40 and standard deviation 5.7, for each of 50 images.
    assert counts.size == n and counts.min() > 10 and counts.max() < 70


def test_the_whole_split_is_taken_as_it_is(tiny_dataset):
    train = tiny_dataset.train
    assert draw_batch(jax.random.key(0), 0, train, train.labels.size) is train


def test_batch_is_a_function_of_key_and_step(tiny_dataset):
    def labels(key, step):
        batch = draw_batch(jax.random.key(key), step, tiny_dataset.train, 20)
        return batch.images.tolist()

    assert labels(0, 5) == labels(0, 5)
    assert labels(0, 5) != labels(0, 6)
    assert labels(0, 5) != labels(1, 5)


def test_batches_of_a_step_are_drawn_independently(tiny):
    settings = dataclasses.replace(tiny, large_batch_size=40)
    n = settings.training_examples
    train = Split(jnp.arange(n, dtype=jnp.float32), jnp.arange(n))
    keys = random_streams(0)
    names = METHODS["independent"].batches
    overlaps = []
    for step in range(200):
        small, second, large = draw_batches(names, settings, keys, step, train)
        assert (small.labels.size, second.labels.size, large.labels.size) == (
            10,
            10,
            40,
        )
        overlaps.append(
            (
                np.intersect1d(small.labels, second.labels).size,
                np.intersect1d(small.labels, large.labels).size,
                np.intersect1d(second.labels, large.labels).size,
            )
        )
    # Hypergeometric: means 1, 4 and 4, standard deviations 0.9, 1.5 and 1.5; these are
    # five standard errors of the mean of 200.
    means = np.mean(overlaps, axis=0)
    assert (abs(means - [1, 4, 4]) < [0.32, 0.53, 0.53]).all()


def test_methods_have_the_same_small_batches(tiny, tiny_dataset):
    keys = random_streams(0)
    first = [
        draw_batches(method.batches, tiny, keys, 3, tiny_dataset.train)[0]
        for method in METHODS.values()
        if method.batches[0] == "small"
    ]
    for batch in first[1:]:
        np.testing.assert_array_equal(batch.images, first[0].images)


def test_cost_of_a_step(tiny):
    settings = dataclasses.replace(tiny, large_batch_size=40)
    cost = {
        name: examples_per_step(method, settings) for name, method in METHODS.items()
    }
    assert cost == {
        "sgd-large-batch": 40,
        "sgd": 10,
        "sgd-truncated": 10,
        "inflated": 60,
        "independent": 60,
        "shared": 50,
        "balanced-untruncated": 10,
        "balanced": 10,
        "truncated-heavy-tailed-sgd": 10,
    }
    gated = dataclasses.replace(settings, inflate_above=0.9)
    assert round(examples_per_step(METHODS["independent"], gated), 6) == 15
