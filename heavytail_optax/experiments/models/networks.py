"""The networks of Zhu et al. 2019, each as two pure functions."""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
from flax import nnx

from ..settings import ModelSettings, PixelRange
from .convolutions import Precision
from .layers import INITIALISATIONS, Layers, batch_last, flatten, max_pool


class LeNet(nnx.Module):
    """Two convolutions and two dense layers.

    Convolution 5x5 to 10 channels, 2x2 maximum, ReLU, twice, without padding; then dense
    to 50, ReLU, dense to the classes. 11,330 parameters for one 28x28 channel and ten
    classes.
    """

    def __init__(
        self, layers: Layers, image_shape: tuple[int, ...], num_classes: int
    ) -> None:
        height, columns, channels = image_shape
        hidden, units = layers.scaled(10), layers.scaled(50)
        self.convolution1 = layers.convolution(channels, hidden, 5, "VALID")
        self.convolution2 = layers.convolution(hidden, hidden, 5, "VALID")
        flat = hidden * _pooled_twice(height) * _pooled_twice(columns)
        self.dense1 = layers.dense(flat, units)
        self.dense2 = layers.dense(units, num_classes)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits of shape (n, num_classes) for images of shape (n, *image_shape)."""
        hidden = nnx.relu(max_pool(self.convolution1(batch_last(images))))
        hidden = nnx.relu(max_pool(self.convolution2(hidden)))
        return self.dense2(nnx.relu(self.dense1(flatten(hidden))))


def _pooled_twice(size: int) -> int:
    """Height or width after twice a 5x5 convolution and a 2x2 maximum."""
    return ((size - 4) // 2 - 4) // 2


Blocks = Sequence[Sequence[int]]

CONFIGURATIONS: Mapping[str, Blocks] = MappingProxyType(
    {
        "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
        "vgg16": (
            (64, 64),
            (128, 128),
            (256, 256, 256),
            (512, 512, 512),
            (512, 512, 512),
        ),
    }
)
"""Channels of the convolutions, a 2x2 maximum after each block. VGG11 is configuration A
of Simonyan and Zisserman 2014 (arXiv 1409.1556), VGG16 their D."""

_UNITS = 512


class VGG(nnx.Module):
    """Blocks of 3x3 convolutions with ReLU, a 2x2 maximum after each; three dense layers.

    The dense layers have 512 and 512 units with ReLU, and the classes.
    """

    def __init__(
        self,
        layers: Layers,
        image_shape: tuple[int, ...],
        num_classes: int,
        blocks: Blocks,
    ) -> None:
        height, columns, channels = image_shape
        self.blocks = nnx.List()
        for block in blocks:
            convolutions = nnx.List()
            for published in block:
                out = layers.scaled(published)
                convolutions.append(layers.convolution(channels, out, 3, "SAME"))
                channels = out
            self.blocks.append(convolutions)
        shrinking = 2 ** len(blocks)
        flat = channels * (height // shrinking) * (columns // shrinking)
        units = layers.scaled(_UNITS)
        self.dense1 = layers.dense(flat, units)
        self.dense2 = layers.dense(units, units)
        self.dense3 = layers.dense(units, num_classes)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits of shape (n, num_classes) for images of shape (n, *image_shape)."""
        hidden = batch_last(images)
        for block in self.blocks:
            *first, last = block
            for layer in first:
                hidden = nnx.relu(layer(hidden))
            # The maximum of ReLUs is the ReLU of the maximum, of a quarter the numbers.
            hidden = nnx.relu(max_pool(last(hidden)))
        hidden = nnx.relu(self.dense1(flatten(hidden)))
        return self.dense3(nnx.relu(self.dense2(hidden)))


Predict = Callable[[nnx.State, jax.Array], jax.Array]
InitParams = Callable[[jax.Array], nnx.State]


@functools.lru_cache(maxsize=8)
def build_network(
    settings: ModelSettings,
    image_shape: tuple[int, ...],
    num_classes: int,
    pixel_range: PixelRange,
    precision: Precision = "float32",
) -> tuple[Predict, InitParams]:
    """A network as two pure functions, the same ones for the same arguments.

    The precision is that of the products within `predict`. All else is float32.
    """
    settings.check_image_size(min(image_shape[:2]))
    law = INITIALISATIONS[settings.initialisation]

    def build(key: jax.Array) -> nnx.Module:
        layers = Layers(law, precision, settings.width, nnx.Rngs(key))
        if settings.model == "lenet":
            return LeNet(layers, image_shape, num_classes)
        blocks = CONFIGURATIONS[settings.model]
        return VGG(layers, image_shape, num_classes, blocks)

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
