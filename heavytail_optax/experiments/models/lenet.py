"""The LeNet of Zhu et al. 2019."""

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


class LeNet(nnx.Module):
    """Two convolutions and two dense layers, after Zhu et al. 2019.

    Convolution 5x5 to 10 channels, 2x2 maximum, ReLU, twice, without padding; then dense
    to 50, ReLU, dense to the classes. 11,330 parameters for one 28x28 channel and ten
    classes.

    Args:
      image_shape: (height, width, channels), height and width at least 16.
      num_classes: number of logits.
      initialisation: of all weights.
      width: factor on the 10 channels and the 50 hidden units.
      rngs: where the initial weights come from.

    Example:
      >>> import jax
      >>> from flax import nnx
      >>> from heavytail_optax.experiments.models.layers import INITIALISATIONS
      >>> from heavytail_optax.experiments.models.lenet import LeNet
      >>> model = LeNet((28, 28, 1), 10, INITIALISATIONS["he"], rngs=nnx.Rngs(0))
      >>> model(jax.numpy.zeros((3, 28, 28, 1))).shape
      (3, 10)
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
