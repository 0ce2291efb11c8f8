import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.training.batches import (
    PADDING,
    augment,
    batch_sizes,
    draw_batches,
    draw_places,
    examples_per_step,
    fetch,
    random_streams,
)


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
    np.testing.assert_array_equal(
        images, augment(jax.random.split(key, 100), plain.images)
    )
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
        "f-sam": 20,
        "msam": 10,
        "sgd-averaged": 10,
    }
    gated = replaced(settings, method="independent", inflate_above=0.9)
    assert round(examples_per_step(gated), 6) == 15


PLACES = 2 * PADDING + 1


def windows(image):
    """All crops of the padded image, shape (row, column, flip, height, width, c)."""
    height, width, _ = image.shape
    padded = np.pad(image, [(PADDING, PADDING), (PADDING, PADDING), (0, 0)])
    crops = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (0, 1))
    crops = np.moveaxis(crops, 2, -1)
    return np.stack([crops, crops[:, :, :, ::-1]], axis=2)


def places(image, augmented):
    """Row, column and flip of each output, which must be one of the windows."""
    same = (windows(image)[None] == augmented[:, None, None, None]).all((4, 5, 6))
    # A random image has no two windows that are the same.
    np.testing.assert_array_equal(same.sum((1, 2, 3)), 1)
    return np.argwhere(same)[:, 1:]


def are_equally_frequent(windows):
    """Pearson's test over all 162 windows.

    The statistic has mean 161 and standard deviation sqrt(322) = 18; six of them are a
    false alarm in far more than 1e5 keys.
    """
    expected = len(windows) / (2 * PLACES**2)
    counts = np.bincount(windows, minlength=2 * PLACES**2)
    return ((counts - expected) ** 2 / expected).sum() < 161 + 6 * 18


def random_image(height, width, channels):
    shape = (height, width, channels)
    return np.random.default_rng(0).integers(1, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def copies():
    """One image many times."""
    return jnp.tile(random_image(12, 12, 3), (8192, 1, 1, 1))


@pytest.fixture(scope="module")
def compiled(copies):
    """`augment`, compiled for the copies."""
    return jax.jit(
        lambda key, images: augment(jax.random.split(key, len(images)), images)
    )


def test_each_image_becomes_a_window_and_all_of_them_occur_equally_often(
    copies, compiled
):
    augmented = compiled(jax.random.key(0), copies)
    assert augmented.dtype == jnp.uint8 and augmented.shape == copies.shape
    row, column, flip = places(random_image(12, 12, 3), np.asarray(augmented)).T
    windows = (row * PLACES + column) * 2 + flip
    assert are_equally_frequent(windows)
    # Without the last column, or with a flip in two images out of three, they are not.
    assert not are_equally_frequent(windows[column < PLACES - 1])
    assert not are_equally_frequent(
        windows[(flip == 1) | (np.arange(len(row)) % 2 == 0)]
    )
    # Binomial: five standard deviations are a false alarm in 1e6 keys.
    assert abs(flip.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(flip))


def test_the_key_decides(copies, compiled):
    first = compiled(jax.random.key(0), copies)
    np.testing.assert_array_equal(first, compiled(jax.random.key(0), copies))
    assert (first != compiled(jax.random.key(1), copies)).any()


def test_inside_a_compiled_loop_over_steps():
    """On different images, neither square nor in colour."""
    images = jnp.stack([random_image(8, 10, 1) // 2 + 100 * i for i in range(2)])

    @jax.jit
    def run(key, images):
        def step(_, number):
            return None, augment(
                jax.random.split(jax.random.fold_in(key, number), 2), images
            )

        return jax.lax.scan(step, None, jnp.arange(3))[1]

    augmented = np.asarray(run(jax.random.key(0), images))
    assert augmented.shape == (3, *images.shape)
    for step in augmented:
        for image, one in zip(np.asarray(images), step, strict=True):
            places(image, one[None])
    assert (augmented[0] != augmented[1]).any()
