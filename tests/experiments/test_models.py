import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.models.networks import build_network

LENET_SHAPE, VGG_SHAPE = (28, 28, 1), (32, 32, 3)


def model_of(tiny, image_shape, num_classes=10, **changes):
    settings = replaced(tiny, image_size=None, **changes)
    predict, init = build_network(
        settings.model, image_shape, num_classes, settings.data.pixel_range
    )
    return jax.jit(predict), jax.jit(init)


def shapes_of(tiny, image_shape, num_classes=10, **changes):
    _, init = model_of(tiny, image_shape, num_classes, **changes)
    return jax.eval_shape(init, jax.random.key(0))


def size_of(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def random_images(number, image_shape):
    draws = np.random.default_rng(0).integers(0, 256, (number, *image_shape))
    return jnp.asarray(draws, jnp.uint8)


def convolutions(size, channels):
    """Parameters of convolutions, from the images' channels to the last layer's."""
    return sum(
        size * size * before * after + after
        for before, after in itertools.pairwise(channels)
    )


def dense(units):
    return sum(before * after + after for before, after in itertools.pairwise(units))


def test_lenet_has_the_parameters_of_zhu(tiny):
    params = shapes_of(tiny, LENET_SHAPE)
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(params))
    assert sizes == sorted([250, 10, 2500, 10, 160 * 50, 50, 500, 10])
    assert sum(sizes) == 11_330
    assert sum(sizes) == convolutions(5, [1, 10, 10]) + dense([4 * 4 * 10, 50, 10])


def test_lenet_may_be_narrower(tiny):
    # 0.25 times 10 and 50 are 2.5 and 12.5, halves rounded to even.
    params = shapes_of(tiny, LENET_SHAPE, width=0.25)
    assert size_of(params) == 680
    assert size_of(params) == convolutions(5, [1, 2, 2]) + dense([4 * 4 * 2, 12, 10])


VGG11 = (64, 128, 256, 256, 512, 512, 512, 512)
VGG16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


@pytest.mark.parametrize(
    ("model", "channels", "width", "parameters"),
    [
        ("vgg11", VGG11, 1.0, 9_750_922),
        ("vgg11", VGG11, 0.25, 611_434),
        ("vgg16", VGG16, 1.0, 15_245_130),
        ("vgg16", VGG16, 0.25, 955_098),
    ],
)
def test_vgg_has_the_parameters_of_its_configuration(
    tiny, model, channels, width, parameters
):
    params = shapes_of(tiny, VGG_SHAPE, model=model, width=width)
    scaled = [int(width * size) for size in channels]
    units = int(width * 512)
    by_hand = convolutions(3, [3, *scaled]) + dense([scaled[-1], units, units, 10])
    assert size_of(params) == by_hand == parameters


def test_larger_images_have_a_larger_first_dense_layer(tiny):
    small = shapes_of(tiny, VGG_SHAPE, model="vgg11", width=0.125)
    large = shapes_of(tiny, (64, 40, 3), model="vgg11", width=0.125)
    assert small["dense1"]["kernel"].shape == (64, 64)
    assert large["dense1"]["kernel"].shape == (64 * 2 * 1, 64)


def test_the_smallest_width_leaves_one_channel_and_all_classes(tiny):
    predict, init = model_of(tiny, VGG_SHAPE, 100, model="vgg11", width=1e-9)
    params = init(jax.random.key(0))
    assert size_of(params) == convolutions(3, [3] + [1] * 8) + dense([1, 1, 1, 100])
    assert predict(params, random_images(2, VGG_SHAPE)).shape == (2, 100)


@pytest.mark.parametrize(
    ("model", "image_shape", "message"),
    [
        ("lenet", (15, 15, 1), "at least 16 for lenet. Got 15 instead"),
        ("vgg11", (31, 31, 3), "at least 32 for vgg11. Got 31 instead"),
        ("vgg16", (40, 28, 3), "at least 32 for vgg16. Got 28 instead"),
    ],
)
def test_too_small_images_are_refused(tiny, model, image_shape, message):
    with pytest.raises(ValueError, match=f"The `image_size` setting must be {message}"):
        model_of(tiny, image_shape, model=model)


@pytest.mark.parametrize("initialisation", ["he", "truncated-normal"])
def test_initial_weights_have_the_standard_deviation_asked_for(tiny, initialisation):
    _, init = model_of(tiny, LENET_SHAPE, initialisation=initialisation)
    params = init(jax.random.key(0))
    kernel = params["dense1"]["kernel"]
    # A standard normal cut at -2 and 2 has the standard deviation 0.87963.
    expected = np.sqrt(2 / 160) if initialisation == "he" else 0.02 * 0.87963
    # The relative standard error of a standard deviation of 8000 draws is 0.8%.
    np.testing.assert_allclose(kernel.std(), expected, rtol=0.04)
    assert not params["dense1"]["bias"].any()


def test_fan_out_is_the_initialisation_of_zhus_vgg(tiny):
    _, init = model_of(
        tiny, VGG_SHAPE, model="vgg11", width=0.25, initialisation="fan-out"
    )
    params = init(jax.random.key(0))
    for block, layer, channels_out in ((0, 0, 16), (2, 1, 64), (4, 1, 128)):
        convolution = params["blocks"][block][layer]
        draws = convolution["kernel"].size
        ratio = convolution["kernel"].std() / np.sqrt(2 / (9 * channels_out))
        # Five standard errors: a false alarm of 6e-7 for each layer.
        assert abs(ratio - 1) < 5 / np.sqrt(2 * draws)
        assert not convolution["bias"].any()
    limit = 1 / np.sqrt(128)
    for name in ("dense1", "dense2", "dense3"):
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        assert abs(kernel).max() <= limit * (1 + 1e-6)
        # 0.9 of the limit is passed by one weight in ten: by none of 1,280 with
        # probability 1e-58; by none of ten biases with 0.3, hence half of the limit.
        assert abs(kernel).max() > 0.9 * limit
        assert limit / 2 < abs(bias).max() <= limit


def test_prediction_is_a_pure_function_of_parameters(tiny):
    predict, init = model_of(tiny, (16, 16, 1))
    params, others = init(jax.random.key(0)), init(jax.random.key(1))
    images = random_images(3, (16, 16, 1))
    logits = predict(params, images)
    assert logits.shape == (3, 10)
    np.testing.assert_array_equal(predict(params, images), logits)
    assert not predict(jax.tree.map(jnp.zeros_like, params), images).any()
    assert (predict(others, images) != logits).any()


@pytest.mark.parametrize(
    ("model", "image_shape", "width"),
    [("lenet", (20, 17, 2), 1.0), ("vgg11", (33, 40, 3), 0.05)],
)
def test_each_image_has_its_own_logits(tiny, model, image_shape, width):
    predict, init = model_of(tiny, image_shape, model=model, width=width)
    params, images = init(jax.random.key(0)), random_images(4, image_shape)
    together = predict(params, images)
    alone = jnp.concatenate([predict(params, image[None]) for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert len(set(together[:, 0].tolist())) == 4


@pytest.mark.parametrize(
    ("model", "image_shape"), [("lenet", LENET_SHAPE), ("vgg11", VGG_SHAPE)]
)
def test_native_convolutions_give_the_same_gradient(
    tiny, model, image_shape, monkeypatch
):
    width = 0.1 if model == "vgg11" else 1.0
    settings = replaced(tiny, model=model, width=width, image_size=image_shape[0])
    predict, init = build_network(
        settings.model, image_shape, 10, settings.data.pixel_range
    )
    params = jax.jit(init)(jax.random.key(0))
    images = random_images(3, image_shape)

    def gradient(uses_native):
        def loss(params):
            return jnp.sin(predict(params, images)).sum()

        program = jax.jit(jax.grad(loss)).lower(params)
        assert ("stablehlo.convolution" in program.as_text()) == uses_native
        return program.compile()(params)

    ours = gradient(uses_native=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    native = gradient(uses_native=True)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(
            one, other, atol=2e-5 * max(1, float(abs(other).max()))
        ),
        ours,
        native,
    )
