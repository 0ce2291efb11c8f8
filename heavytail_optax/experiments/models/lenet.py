"""The LeNet of Zhu et al. 2019."""

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


class LeNet(nnx.Module):
    """Two convolutions and two dense layers.

    Convolution 5x5 to 10 channels, 2x2 maximum, ReLU, twice, without padding; then dense
    to 50, ReLU, dense to the classes. 11,330 parameters for one 28x28 channel and ten
    classes.
    """

    min_image_size = 16

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        initialisation: Initialisation,
        width: float = 1.0,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        height, columns, channels = image_shape
        hidden, units = scaled(width, 10), scaled(width, 50)
        self.convolution1 = Convolution(
            channels, hidden, 5, "VALID", initialisation, rngs=rngs
        )
        self.convolution2 = Convolution(
            hidden, hidden, 5, "VALID", initialisation, rngs=rngs
        )
        flat = hidden * _pooled_twice(height) * _pooled_twice(columns)
        self.dense1 = dense(flat, units, initialisation, rngs=rngs)
        self.dense2 = dense(units, num_classes, initialisation, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits of shape (n, num_classes) for images of shape (n, *image_shape)."""
        hidden = nnx.relu(max_pool(self.convolution1(batch_last(images))))
        hidden = nnx.relu(max_pool(self.convolution2(hidden)))
        return self.dense2(nnx.relu(self.dense1(flatten(hidden))))


def _pooled_twice(size: int) -> int:
    """Height or width after twice a 5x5 convolution and a 2x2 maximum."""
    return ((size - 4) // 2 - 4) // 2
