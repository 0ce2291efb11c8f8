"""The networks of Zhu et al. 2019, each as two pure functions, and their layers.

Within a network, images are (channels, height, width, n), the batch last, so that whatever
is done to a shifted or pooled image is done to n neighbouring numbers at a time.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ..settings import ModelSettings, PixelRange
from .convolutions import Padding, Precision, convolve, dot_general


class Initialisation(NamedTuple):
    """Laws of the initial weights. The biases of convolutions start at zero."""

    convolution: nnx.Initializer
    dense: nnx.Initializer
    dense_bias: Callable[[int], nnx.Initializer]  # for the number of inputs


def _zero(num_inputs: int) -> nnx.Initializer:
    del num_inputs
    return nnx.initializers.zeros


def _uniform(num_inputs: int) -> nnx.Initializer:
    """Uniform between -1/sqrt(num_inputs) and 1/sqrt(num_inputs)."""
    limit = num_inputs**-0.5

    def initializer(key: jax.Array, shape, dtype=float, out_sharding=None) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return initializer


_HE = nnx.initializers.he_normal()
_TRUNCATED_NORMAL = nnx.initializers.truncated_normal(0.02)

INITIALISATIONS: Mapping[str, Initialisation] = MappingProxyType(
    {
        "he": Initialisation(_HE, _HE, _zero),
        "truncated-normal": Initialisation(_TRUNCATED_NORMAL, _TRUNCATED_NORMAL, _zero),
        # Of the VGG in Zhu et al.'s code, which leaves the dense layers to PyTorch:
        # weights and biases uniform between -1/sqrt(inputs) and 1/sqrt(inputs).
        "fan-out": Initialisation(
            nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
            _uniform,
        ),
    }
)


class Convolution(nnx.Module):
    """Convolution with stride one, and a bias for each channel."""

    def __init__(
        self, kernel: jax.Array, padding: Padding, precision: Precision
    ) -> None:
        self.padding, self.precision = padding, precision
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(jnp.zeros(kernel.shape[-1]))

    def __call__(self, images: jax.Array) -> jax.Array:
        """For images of shape (channels_in, height, width, n)."""
        hidden = convolve(images, self.kernel[...], self.padding, self.precision)
        return hidden + self.bias[:, None, None, None]


class Layers(NamedTuple):
    """Makes the layers of a network, with what they share."""

    law: Initialisation
    precision: Precision
    width: float  # multiplies the published numbers of channels and units
    rngs: nnx.Rngs

    def convolution(
        self, channels_in: int, channels_out: int, size: int, padding: Padding
    ) -> Convolution:
        """One with a square kernel."""
        shape = (size, size, channels_in, channels_out)
        kernel = self.law.convolution(self.rngs.params(), shape)
        return Convolution(kernel, padding, self.precision)

    def dense(self, num_inputs: int, num_outputs: int) -> nnx.Linear:
        """A dense layer, for inputs of shape (n, num_inputs)."""
        is_rounded = self.precision == "bfloat16"
        return nnx.Linear(
            num_inputs,
            num_outputs,
            kernel_init=self.law.dense,
            bias_init=self.law.dense_bias(num_inputs),
            dot_general=dot_general if is_rounded else jax.lax.dot_general,
            rngs=self.rngs,
        )

    def scaled(self, size: int) -> int:
        """A published number times the width, rounded, and at least 1."""
        return scaled(self.width, size)


def max_pool(images: jax.Array) -> jax.Array:
    """Largest value of each 2x2 square; an odd last row or column is left out."""
    channels, height, width, n = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2, :]
    squares = even.reshape(channels, height // 2, 2, width // 2, 2, n)
    return squares.max(axis=(2, 4))


def batch_last(images: jax.Array) -> jax.Array:
    """(n, height, width, channels) -> (channels, height, width, n)."""
    return images.transpose(3, 1, 2, 0)


def flatten(images: jax.Array) -> jax.Array:
    """(channels, height, width, n) -> (n, channels * height * width)."""
    return images.reshape(-1, images.shape[-1]).T


def scaled(width: float, size: int) -> int:
    """`size` times `width`, rounded, and at least 1."""
    return max(1, round(width * size))


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
