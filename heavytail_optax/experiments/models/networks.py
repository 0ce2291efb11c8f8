"""The network of a job, as two pure functions."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from heavytail_optax.experiments.models.layers import INITIALISATIONS
from heavytail_optax.experiments.models.lenet import LeNet
from heavytail_optax.experiments.models.vgg import CONFIGURATIONS, VGG
from heavytail_optax.experiments.setting_rules import message
from heavytail_optax.experiments.settings import ModelSettings, PixelRange

Predict = Callable[[nnx.State, jax.Array], jax.Array]
InitParams = Callable[[jax.Array], nnx.State]


@functools.lru_cache(maxsize=8)
def build_network(
    settings: ModelSettings,
    image_shape: tuple[int, ...],
    num_classes: int,
    pixel_range: PixelRange,
) -> tuple[Predict, InitParams]:
    """A network as two pure functions, the same ones for the same arguments."""
    height, columns, channels = image_shape
    shape = (height, columns, channels)
    network = LeNet if settings.model == "lenet" else VGG
    if min(height, columns) < network.min_image_size:
        accepted = f"at least {network.min_image_size} for {settings.model}"
        raise ValueError(message("image_size", accepted, min(height, columns)))
    law, width = INITIALISATIONS[settings.initialisation], settings.width

    def build(key: jax.Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        if settings.model == "lenet":
            return LeNet(shape, num_classes, law, width, rngs=rngs)
        blocks = CONFIGURATIONS[settings.model]
        return VGG(blocks, shape, num_classes, law, width, rngs=rngs)

    # Everything in these networks is a parameter. Training then needs nothing of NNX:
    # plain jit on pytrees is several times quicker than nnx.jit.
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def predict(params: nnx.State, images: jax.Array) -> jax.Array:
        pixels = normalise(images, pixel_range)
        return nnx.merge(graphdef, params)(pixels)

    def init(key: jax.Array) -> nnx.State:
        _, params = nnx.split(build(key))
        return nnx.as_pure(params)

    return predict, init


def normalise(images: jax.Array, pixel_range: PixelRange) -> jax.Array:
    """The input of a network, from bytes, which are a quarter of the memory."""
    pixels = images.astype(jnp.float32)
    if pixel_range == "zero-to-one":
        return pixels / 255
    return (pixels - 127.5) / 127.5
