"""Random crops and flips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax.experiments.training.augmentation import PADDING, augment

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
    return jax.jit(augment).lower(jax.random.key(0), copies).compile()


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
            return None, augment(jax.random.fold_in(key, number), images)

        return jax.lax.scan(step, None, jnp.arange(3))[1]

    augmented = np.asarray(run(jax.random.key(0), images))
    assert augmented.shape == (3, *images.shape)
    for step in augmented:
        for image, one in zip(np.asarray(images), step, strict=True):
            places(image, one[None])
    assert (augmented[0] != augmented[1]).any()
