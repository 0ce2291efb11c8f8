"""The gradients of all methods on the LeNet of 11,330 parameters."""

import functools

import jax
import numpy as np
import pytest
import scipy.stats
from small_data_sets import load_dataset

from heavytail_optax.experiments.data.dataset import Split
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.models.networks import build_network
from heavytail_optax.experiments.training.batches import (
    batch_sizes,
    draw_batches,
    fetch,
    random_streams,
)
from heavytail_optax.experiments.training.evaluation import loss_per_example
from heavytail_optax.experiments.training.steps import build_gradient

KEYS = random_streams(0)


@pytest.fixture(scope="module")
def settings(tiny):
    return replaced(tiny, image_size=28, large_batch_size=40)


@pytest.fixture(scope="module")
def train(settings):
    return load_dataset(settings.data, KEYS.labels).train


@pytest.fixture(scope="module")
def lenet(settings):
    predict, init = build_network(
        settings.model, (28, 28, 1), 10, settings.data.pixel_range
    )
    return predict, init(KEYS.weights)


@functools.cache
def gradient_of(name, settings, predict):
    method = replaced(settings, method=name).method
    gradient = build_gradient(settings.data, settings.training, method, predict)
    return jax.jit(functools.partial(gradient, keys=KEYS))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@functools.cache
def plain_of(predict):
    """Mean loss and gradient of a batch, without anything of the methods."""

    def mean_loss(params, batch):
        return loss_per_example(predict, params, batch).mean()

    return jax.jit(jax.value_and_grad(mean_loss))


def sizes_of(name, settings):
    method = replaced(settings, method=name).method
    return batch_sizes(settings.data, settings.training, method)


def plain_gradients(name, settings, lenet, train, step=0):
    """One (loss, flat gradient) for each batch of a method."""
    predict, params = lenet
    drawn = draw_batches(
        sizes_of(name, settings), "none", KEYS, step, train.labels.size
    )
    found = [plain_of(predict)(params, fetch(train, batch)) for batch in drawn]
    return [(loss, flat(gradient)) for loss, gradient in found]


def gradient_at(name, settings, lenet, train, step=0):
    predict, params = lenet
    loss, gradient = gradient_of(name, settings, predict)(params, train, step)
    return loss, flat(gradient)


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_sgd_has_the_gradient_of_its_batch(settings, lenet, train):
    loss, gradient = gradient_at("sgd", settings, lenet, train, step=3)
    ((expected_loss, expected),) = plain_gradients("sgd", settings, lenet, train, 3)
    assert_close(loss, expected_loss)
    assert_close(gradient, expected)


def test_the_large_batch_is_all_training_images_by_default(settings, lenet, train):
    settings = replaced(settings, large_batch_size=None)
    predict, params = lenet
    loss, gradient = gradient_at("sgd-large-batch", settings, lenet, train)
    expected_loss, expected = plain_of(predict)(params, train)
    assert_close(loss, expected_loss)
    assert_close(gradient, flat(expected))


@pytest.mark.parametrize(("name", "star"), [("independent", 1), ("shared", 0)])
def test_one_weighted_pass_is_the_three_gradient_formula(
    name, star, settings, lenet, train
):
    loss, gradient = gradient_at(name, settings, lenet, train)
    gradients = plain_gradients(name, settings, lenet, train)
    expected_loss, small = gradients[0]
    noise = gradients[star][1] - gradients[-1][1]
    # The one unknown is Z, at least the scale as the Pareto draw is at least one.
    z = (gradient - small) @ noise / (noise @ noise)
    assert z >= settings.method.inflation_scale
    assert_close(gradient, small + z * noise)
    assert_close(loss, expected_loss)


def test_balanced_sees_its_small_batch_only(settings, lenet, train):
    (drawn,) = draw_batches(
        sizes_of("balanced", settings), "none", KEYS, 0, train.labels.size
    )
    small = fetch(train, drawn)
    is_drawn = (train.images[:, None] == small.images[None]).all((2, 3, 4)).any(1)
    assert is_drawn.sum() == settings.training.batch_size
    others_blank = Split(train.images * is_drawn[:, None, None, None], train.labels)
    loss, gradient = gradient_at("balanced", settings, lenet, train)
    _, again = gradient_at("balanced", settings, lenet, others_blank)
    np.testing.assert_array_equal(gradient, again)
    ((expected_loss, plain),) = plain_gradients("sgd", settings, lenet, train)
    assert_close(loss, expected_loss)
    assert np.linalg.norm(gradient - plain) > 0.1 * np.linalg.norm(plain)


@pytest.mark.parametrize("name", ["independent", "shared", "balanced"])
def test_the_cooldown_has_the_plain_gradient(name, settings, lenet, train):
    assert settings.method.noisy_steps(settings.training.steps) == 5
    for step, is_plain in ((4, False), (5, True)):
        _, gradient = gradient_at(name, settings, lenet, train, step)
        ((_, plain),) = plain_gradients("sgd", settings, lenet, train, step)
        difference = np.abs(gradient - plain).max() / np.abs(plain).max()
        assert (difference < 1e-5) == is_plain


def test_below_the_gate_the_gradient_is_plain(settings, lenet, train):
    settings = replaced(settings, inflate_above=0.5, steps=16, cooldown=0.0)
    differences = []
    for step in range(settings.training.steps):
        _, gradient = gradient_at("independent", settings, lenet, train, step)
        ((_, plain),) = plain_gradients("sgd", settings, lenet, train, step)
        differences.append(np.abs(gradient - plain).max() / np.abs(plain).max())
    inflated = np.array(differences) > 1e-5
    # Binomial with mean 8 and standard deviation 2.
    assert 1 <= inflated.sum() <= 15
    assert min(np.array(differences)[inflated]) > 0.01


def test_a_normal_law_has_normal_factors(settings, lenet, train):
    """Twenty factors: Kolmogorov-Smirnov at 1e-3 against the law, and a wrong scale."""
    settings = replaced(settings, inflation_law="normal", steps=20, cooldown=0.0)
    factors = []
    for step in range(settings.training.steps):
        _, gradient = gradient_at("shared", settings, lenet, train, step)
        (_, small), (_, large) = plain_gradients("shared", settings, lenet, train, step)
        noise = small - large
        factors.append((gradient - small) @ noise / (noise @ noise))
    scaled = np.array(factors) / settings.method.inflation_scale
    assert scipy.stats.kstest(scaled, "norm").pvalue > 1e-3
    assert scipy.stats.kstest(5.0 * scaled, "norm").pvalue < 1e-3
