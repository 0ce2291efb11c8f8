import jax
import numpy as np

from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.settings import replaced
from heavytail_optax.experiments.training.augmentation import augment
from heavytail_optax.experiments.training.batches import (
    batch_sizes,
    draw_batches,
    draw_places,
    examples_per_step,
    fetch,
)
from heavytail_optax.experiments.training.random_streams import random_streams


def test_batches_are_without_replacement_and_cover_the_split():
    draw = jax.jit(draw_places, static_argnums=(2, 3))
    key, n = jax.random.key(0), 50
    batches = [draw(key, step, n, 10) for step in range(200)]
    assert all(len(set(batch.tolist())) == 10 for batch in batches)
    counts = np.bincount(np.concatenate(batches))
    # Binomial with mean 40 and standard deviation 5.7, for each of 50 images.
    assert counts.size == n and counts.min() > 10 and counts.max() < 70


def test_the_whole_split_is_taken_in_order():
    assert draw_places(jax.random.key(0), 0, 7, 7).tolist() == list(range(7))


def test_batch_is_a_function_of_key_and_step():
    def places(key, step):
        return draw_places(jax.random.key(key), step, 100, 20).tolist()

    assert places(0, 5) == places(0, 5)
    assert places(0, 5) != places(0, 6)
    assert places(0, 5) != places(1, 5)


def test_images_come_with_their_labels(tiny, tiny_dataset):
    train = tiny_dataset.train
    (batch,) = draw_batches({"small": 10}, "none", random_streams(0), 3, 100)
    assert batch.keys is None
    images, labels = fetch(train, batch)
    places = batch.places.tolist()
    np.testing.assert_array_equal(images, np.asarray(train.images)[places])
    np.testing.assert_array_equal(labels, np.asarray(train.labels)[places])


def test_augmented_batches_are_the_augmented_images(tiny_dataset):
    keys, train = random_streams(0), tiny_dataset.train
    _, batch = draw_batches({"small": 10, "large": 100}, "crop-flip", keys, 3, 100)
    key = jax.random.fold_in(jax.random.fold_in(keys.augmentation, 3), 1)
    plain = fetch(train, batch._replace(keys=None))
    images, labels = fetch(train, batch)
    np.testing.assert_array_equal(images, augment(key, plain.images))
    np.testing.assert_array_equal(labels, plain.labels)
    assert (images != plain.images).any()


def sizes_of(settings):
    return batch_sizes(settings.data, settings.training, settings.method)


def test_batches_of_a_step_are_drawn_independently(tiny):
    settings = replaced(tiny, method="independent", large_batch_size=40)
    keys, sizes = random_streams(0), sizes_of(settings)
    overlaps = []
    for step in range(200):
        batches = draw_batches(
            sizes, "none", keys, step, settings.data.training_examples
        )
        small, second, large = (batch.places for batch in batches)
        assert (small.size, second.size, large.size) == (10, 10, 40)
        overlaps.append(
            (
                np.intersect1d(small, second).size,
                np.intersect1d(small, large).size,
                np.intersect1d(second, large).size,
            )
        )
    # Hypergeometric: means 1, 4 and 4, standard deviations 0.9, 1.5 and 1.5; these are
    # five standard errors of the mean of 200.
    means = np.mean(overlaps, axis=0)
    assert (abs(means - [1, 4, 4]) < [0.32, 0.53, 0.53]).all()


def test_methods_have_the_same_small_batches(tiny):
    keys = random_streams(0)
    first = [
        draw_batches(
            sizes_of(replaced(tiny, method=method.name)), "none", keys, 3, 100
        )[0].places
        for method in METHODS.values()
        if method.batches[0] == "small"
    ]
    for places in first[1:]:
        np.testing.assert_array_equal(places, first[0])


def test_cost_of_a_step(tiny):
    settings = replaced(tiny, large_batch_size=40)
    cost = {
        name: examples_per_step(replaced(settings, method=name)) for name in METHODS
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
        "sam": 20,
        "sgd-averaged": 10,
    }
    gated = replaced(settings, method="independent", inflate_above=0.9)
    assert round(examples_per_step(gated), 6) == 15
