"""The VGG networks of Zhu et al. 2019, without batch norm and dropout."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
from flax import nnx

from heavytail_optax.experiments.models.layers import (
    Convolution,
    Initialisation,
    batch_last,
    dense,
    flatten,
    max_pool,
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
of Simonyan and Zisserman 2014 (arXiv 1409.1556), VGG16 their D."""

_UNITS = 512


class VGG(nnx.Module):
    """Blocks of 3x3 convolutions with ReLU, a 2x2 maximum after each; three dense layers.

    The dense layers have 512 and 512 units with ReLU, and the classes.
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
