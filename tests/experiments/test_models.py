import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from heavytail_optax.experiments.convolution import (
    convolve,
    convolve_by_slices,
    max_pool,
)
from heavytail_optax.experiments.models import build_model

SHAPES = [
    # images, kernel
    ((3, 28, 28, 1), (5, 5, 1, 10)),
    ((2, 12, 12, 10), (5, 5, 10, 10)),
    ((1, 7, 9, 3), (3, 2, 3, 4)),
]


def test_lenet_has_the_parameters_of_zhu(tiny):
    _, params = build_model(tiny, jax.random.key(0), (28, 28, 1), 10)
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(params))
    assert sizes == sorted([250, 10, 2500, 10, 160 * 50, 50, 500, 10])
    assert sum(sizes) == 11_330


@pytest.mark.parametrize("initialisation", ["he", "truncated-normal"])
def test_initial_weights_have_the_standard_deviation_asked_for(tiny, initialisation):
    settings = dataclasses.replace(tiny, initialisation=initialisation)
    _, params = build_model(settings, jax.random.key(0), (28, 28, 1), 10)
    kernel = params["dense1"]["kernel"]
    # A standard normal cut at -2 and 2 has the standard deviation 0.87963.
    expected = np.sqrt(2 / 160) if initialisation == "he" else 0.02 * 0.87963
    # The relative standard error of a standard deviation of 8000 draws is 0.8%.
    np.testing.assert_allclose(kernel.std(), expected, rtol=0.04)
    assert not params["dense1"]["bias"].any()


def native(images, kernel):
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(("image_shape", "kernel_shape"), SHAPES)
def test_both_convolutions_and_their_gradients_agree(image_shape, kernel_shape):
    key_images, key_kernel, key_weights = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(key_images, image_shape)
    kernel = jax.random.normal(key_kernel, kernel_shape)
    expected = native(images, kernel)
    np.testing.assert_allclose(
        jax.jit(convolve_by_slices)(images, kernel), expected, rtol=1e-5, atol=1e-4
    )

    weights = jax.random.normal(key_weights, expected.shape)

    def gradients(function):
        def weighted_sum(images, kernel):
            return (weights * function(images, kernel)).sum()

        return jax.jit(jax.grad(weighted_sum, argnums=(0, 1)))(images, kernel)

    for ours, theirs in zip(
        gradients(convolve_by_slices), gradients(native), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("strides", "padding"), [((2, 2), "VALID"), ((1, 1), "SAME"), ((2, 1), "SAME")]
)
def test_other_convolutions_are_left_to_jax(strides, padding):
    def layer(function):
        return nnx.Conv(
            3,
            4,
            kernel_size=(3, 3),
            strides=strides,
            padding=padding,
            conv_general_dilated=function,
            rngs=nnx.Rngs(0),
        )

    images = jax.random.normal(jax.random.key(1), (2, 8, 9, 3))
    expected = layer(jax.lax.conv_general_dilated)(images)
    np.testing.assert_allclose(layer(convolve)(images), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 8, 6, 3), (1, 7, 5, 2)])
def test_max_pool_is_that_of_flax(shape):
    images = jax.random.normal(jax.random.key(0), shape)
    expected = nnx.max_pool(images, (2, 2), (2, 2))
    np.testing.assert_array_equal(max_pool(images), expected)


def test_prediction_is_a_pure_function_of_parameters(tiny):
    predict, params = build_model(tiny, jax.random.key(0), (16, 16, 1), 10)
    images = jnp.ones((3, 16, 16, 1))
    logits = predict(params, images)
    assert logits.shape == (3, 10)
    np.testing.assert_array_equal(predict(params, images), logits)
    assert not predict(jax.tree.map(jnp.zeros_like, params), images).any()
    _, others = build_model(tiny, jax.random.key(1), (16, 16, 1), 10)
    assert (predict(others, images) != logits).any()
