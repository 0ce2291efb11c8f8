"""The VGG networks of Zhu et al. 2019, without batch norm and dropout."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
from flax import nnx

from heavytail_optax.experiments.models.convolution import max_pool
from heavytail_optax.experiments.models.layers import (
    Convolution,
    Initialisation,
    batch_last,
    dense,
    flatten,
    scaled,
)

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
of Simonyan and Zisserman, VGG16 their D."""

_UNITS = 512


class VGG(nnx.Module):
    """Blocks of 3x3 convolutions with ReLU, a 2x2 maximum after each; three dense layers.

    The dense layers have 512 and 512 units with ReLU, and the classes.

    Args:
      blocks: channels of the convolutions, one of `CONFIGURATIONS`.
      image_shape: (height, width, channels), height and width at least 32.
      num_classes: number of logits.
      initialisation: of all weights.
      width: factor on all channels and the 512 units.
      rngs: where the initial weights come from.

    Example:
      >>> import jax
      >>> from flax import nnx
      >>> from heavytail_optax.experiments.models.layers import INITIALISATIONS
      >>> from heavytail_optax.experiments.models.vgg import CONFIGURATIONS, VGG
      >>> blocks, law = CONFIGURATIONS["vgg11"], INITIALISATIONS["fan-out"]
      >>> model = VGG(blocks, (32, 32, 3), 10, law, width=0.125, rngs=nnx.Rngs(0))
      >>> model(jax.numpy.zeros((2, 32, 32, 3))).shape
      (2, 10)

    References:
      Simonyan and Zisserman, `Very Deep Convolutional Networks for Large-Scale Image
      Recognition <https://arxiv.org/abs/1409.1556>`_, 2014.
    """

    min_image_size = 32

    def __init__(
        self,
        blocks: Blocks,
        image_shape: tuple[int, int, int],
        num_classes: int,
        initialisation: Initialisation,
        width: float = 1.0,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        height, columns, channels = image_shape
        self.blocks = nnx.List()
        for block in blocks:
            layers = nnx.List()
            for published in block:
                out = scaled(width, published)
                layers.append(
                    Convolution(channels, out, 3, "SAME", initialisation, rngs=rngs)
                )
                channels = out
            self.blocks.append(layers)
        shrinking = 2 ** len(blocks)
        flat = channels * (height // shrinking) * (columns // shrinking)
        units = scaled(width, _UNITS)
        self.dense1 = dense(flat, units, initialisation, rngs=rngs)
        self.dense2 = dense(units, units, initialisation, rngs=rngs)
        self.dense3 = dense(units, num_classes, initialisation, rngs=rngs)

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
