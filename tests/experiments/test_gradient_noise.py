"""The noise of small batches against sampling theory and single gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax.experiments.data.dataset import Split
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.measures.gradient_noise import (
    SIZES,
    NoiseDraws,
    assess_noise,
    layer_vectors,
    measure_gradient_noise,
    noise_arguments,
    read_noise,
    write_noise,
)
from heavytail_optax.experiments.models.networks import build_network
from heavytail_optax.experiments.training.batches import random_streams
from heavytail_optax.experiments.training.evaluation import loss_per_example

LAYERS = ("all", "convolution1", "convolution2", "dense1", "dense2")


def never(done, total):
    del done, total
    return False


@pytest.fixture(scope="module")
def network(tiny, tiny_dataset):
    """Predictions and parameters before training."""
    shape = tiny_dataset.train.images.shape[1:]
    predict, init = build_network(tiny.model, shape, 10, tiny.data.pixel_range)
    return predict, init(random_streams(0).weights)


@pytest.fixture(scope="module")
def noise(tiny, tiny_dataset, network):
    def measure(draws, batch_size, tick=never, settings=tiny):
        return measure_gradient_noise(
            settings,
            network[1],
            tiny_dataset.train,
            tiny_dataset.num_classes,
            noise_arguments(settings, draws, batch_size),
            tick,
        )

    return measure


@pytest.fixture(scope="module")
def single_noise(tiny_dataset, network):
    """`g_j - g` of every image j: shape (images, parameters)."""
    predict, params = network
    train = jax.tree.map(jnp.asarray, tiny_dataset.train)

    def gradient(place):
        one = Split(train.images[place][None], train.labels[place][None])
        tree = jax.grad(lambda p: loss_per_example(predict, p, one)[0])(params)
        return layer_vectors(tree)

    every = jax.lax.map(gradient, jnp.arange(train.labels.size))
    return {k: np.asarray(v - v.mean(axis=0)[None]) for k, v in every.items()}


def test_single_images_come_once_each(noise, single_noise):
    found = noise(1000, 1)
    assert found.layers == LAYERS
    assert found.parameters == tuple(v.shape[1] for v in single_noise.values())
    for layer in LAYERS:
        expected = np.sort(np.linalg.norm(single_noise[layer], axis=1))
        np.testing.assert_allclose(
            np.sort(found.of("norm", layer)), expected, rtol=1e-4, atol=1e-5
        )


def test_batches_have_the_variance_of_sampling_without_replacement(noise, single_noise):
    found = noise(2000, 10)
    images = single_noise["all"].shape[0]
    for layer, parameters in zip(found.layers, found.parameters, strict=True):
        squares = np.sum(single_noise[layer] ** 2) / (images - 1)
        expected = squares / 10 * (1 - 10 / images)
        got = found.of("norm", layer) ** 2
        # Five standard errors: one false alarm in two million.
        assert abs(got.mean() - expected) < 5 * got.std() / 2000**0.5
        # With replacement it would be a ninth more.
        assert abs(got.mean() - expected / 0.9) > 5 * got.std() / 2000**0.5
        coordinate = found.of("coordinate", layer).astype(np.float64) ** 2
        error = coordinate.std() / 2000**0.5
        assert abs(coordinate.mean() - expected / parameters) < 5 * error
        projection = found.of("projection", layer)
        assert (projection <= found.of("norm", layer)).all()


def test_projections_are_along_one_direction(tiny, noise, single_noise):
    """Along one direction the variance is that of the sample, not of a random one."""
    found = noise(1000, 1)
    key = jax.random.fold_in(random_streams(tiny.seed).sharpness, 7)
    direction_key = jax.random.split(key, 3)[1]
    for row, layer in enumerate(LAYERS):
        shape = single_noise[layer].shape[1:]
        direction = jax.random.normal(jax.random.fold_in(direction_key, row), shape)
        direction = np.asarray(direction / jnp.linalg.norm(direction))
        expected = np.sort(np.abs(single_noise[layer] @ direction))
        np.testing.assert_allclose(
            np.sort(found.of("projection", layer)), expected, rtol=1e-3, atol=1e-5
        )


def test_it_is_a_function_of_the_seed_and_can_be_stopped(tiny, noise):
    one, two = noise(100, 10), noise(100, 10)
    np.testing.assert_array_equal(one.sizes, two.sizes)
    other = noise(100, 10, settings=replaced(tiny, seed=1))
    assert (one.gradient_norms != other.gradient_norms).any()
    ticks = []
    assert noise(120, 10, lambda *tick: ticks.append(tick) or len(ticks) > 1) is None
    assert ticks == [(0, 120), (50, 120)]
    assert noise(120, 10).gradient_norms.shape == (120,)


def made_up(values, layers=("all", "one")):
    rows = np.broadcast_to(values, (len(SIZES), len(layers), values.size))
    return NoiseDraws(layers, (3,) * len(layers), np.array(rows), np.array(values))


def test_what_is_kept_comes_back(tmp_path):
    path = tmp_path / "gradient_noise.npz"
    assert read_noise(path) is None
    draws = made_up(np.arange(20, dtype=np.float32))
    write_noise(path, draws)
    kept = read_noise(path)
    assert kept.layers == draws.layers and kept.parameters == draws.parameters
    np.testing.assert_array_equal(kept.sizes, draws.sizes)
    path.write_bytes(path.read_bytes()[:100])
    assert read_noise(path) is None
    path.write_text("no archive")
    assert read_noise(path) is None


def test_the_progress_of_fits_counts_all_tails():
    seen = []
    tails = assess_noise(
        made_up(np.zeros(200, np.float32)), lambda *at: seen.append(at)
    )
    assert seen == [(done, len(tails)) for done in range(len(tails) + 1)]


def test_zeros_and_what_is_not_finite_have_no_verdict():
    few = np.zeros(200, np.float32)
    few[:5] = 1.0
    one = np.linspace(1.0, 2.0, 200, dtype=np.float32)
    one[7] = np.inf
    for values, told in (
        (few, "10 of 200 draws"),
        (one, "1 of 200 draws"),
        (np.full(200, np.nan), "200 of 200 draws"),
    ):
        for tail in assess_noise(made_up(values)):
            assert tail.verdict == "cannot tell"
            assert tail.assessment is None and tail.fits == {}
            assert told in tail.sentence
