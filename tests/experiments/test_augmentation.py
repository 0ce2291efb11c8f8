"""Random crops and flips."""

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax.experiments.augmentation import PADDING, augment

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


def random_image(height, width, channels):
    shape = (height, width, channels)
    return np.random.default_rng(0).integers(1, 256, shape, np.uint8)


def test_each_image_becomes_a_window_and_all_of_them_occur_equally_often():
    image, n = random_image(12, 12, 3), 8192
    augmented = jax.jit(augment)(jax.random.key(0), jnp.tile(image, (n, 1, 1, 1)))
    assert augmented.dtype == jnp.uint8
    row, column, flip = places(image, np.asarray(augmented)).T
    # Pearson's statistic over all 162 windows has mean 161 and standard deviation
    # sqrt(322) = 18; six of them are a false alarm in far more than 1e5 keys.
    counts = np.bincount((row * PLACES + column) * 2 + flip, minlength=2 * PLACES**2)
    expected = n / (2 * PLACES**2)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert counts.min() > 0 and statistic < 161 + 6 * 18
    # Binomial: five standard deviations are a false alarm in 1e6 keys.
    assert abs(flip.mean() - 0.5) < 5 * 0.5 / np.sqrt(n)


def test_images_of_a_batch_keep_their_place_and_their_shape():
    images = np.stack([random_image(8, 10, 1) // 2 + 100 * i for i in range(2)])
    augmented = np.asarray(augment(jax.random.key(3), jnp.asarray(images)))
    assert augmented.shape == images.shape
    for image, one in zip(images, augmented, strict=True):
        places(image, one[None])


def test_the_key_decides():
    images = jnp.asarray(np.stack([random_image(8, 8, 3)] * 64))
    first = augment(jax.random.key(0), images)
    np.testing.assert_array_equal(first, augment(jax.random.key(0), images))
    np.testing.assert_array_equal(first, jax.jit(augment)(jax.random.key(0), images))
    assert (first != augment(jax.random.key(1), images)).any()


def test_inside_a_compiled_loop_over_steps():
    images = jnp.asarray(np.stack([random_image(8, 8, 3)] * 4))

    @jax.jit
    def run(key, images):
        def step(_, number):
            return None, augment(jax.random.fold_in(key, number), images)

        return jax.lax.scan(step, None, jnp.arange(3))[1]

    key = jax.random.key(0)
    for number, augmented in enumerate(run(key, images)):
        expected = augment(jax.random.fold_in(key, number), images)
        np.testing.assert_array_equal(augmented, expected)
