"""Networks in Flax NNX, and their split into a pure function and a pytree."""

from collections.abc import Callable

import jax
from flax import nnx

from heavytail_optax.experiments.convolution import convolve, max_pool
from heavytail_optax.experiments.data import normalise
from heavytail_optax.experiments.settings import Settings

Predict = Callable[[nnx.State, jax.Array], jax.Array]
InitParams = Callable[[jax.Array], nnx.State]


class LeNet(nnx.Module):
    """Two convolutions and two dense layers, after Zhu et al. 2019.

    Convolution 5x5 to 10 channels, 2x2 maximum, ReLU, twice, without padding; then dense
    to 50, ReLU, dense to the classes. 11,330 parameters for one 28x28 channel and ten
    classes.

    Args:
      image_shape: (height, width, channels), height and width at least 16.
      num_classes: number of logits.
      initializer: of all weights; biases start at zero.
      rngs: where the initial weights come from.

    Example:
      >>> import jax
      >>> from flax import nnx
      >>> from heavytail_optax.experiments.models import INITIALISERS, LeNet
      >>> model = LeNet((28, 28, 1), 10, INITIALISERS["he"], rngs=nnx.Rngs(0))
      >>> model(jax.numpy.zeros((3, 28, 28, 1))).shape
      (3, 10)
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        initializer: nnx.Initializer,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        height, width, channels = image_shape

        def convolution(channels_in: int) -> nnx.Conv:
            return nnx.Conv(
                channels_in,
                10,
                kernel_size=(5, 5),
                padding="VALID",
                kernel_init=initializer,
                conv_general_dilated=convolve,
                rngs=rngs,
            )

        self.convolution1 = convolution(channels)
        self.convolution2 = convolution(10)
        flat = 10 * _pooled_twice(height) * _pooled_twice(width)
        self.dense1 = nnx.Linear(flat, 50, kernel_init=initializer, rngs=rngs)
        self.dense2 = nnx.Linear(50, num_classes, kernel_init=initializer, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits of shape (n, num_classes) for images of shape (n, *image_shape)."""
        hidden = nnx.relu(max_pool(self.convolution1(images)))
        hidden = nnx.relu(max_pool(self.convolution2(hidden)))
        hidden = hidden.reshape(hidden.shape[0], -1)
        return self.dense2(nnx.relu(self.dense1(hidden)))


INITIALISERS = {
    "he": nnx.initializers.he_normal(),
    "truncated-normal": nnx.initializers.truncated_normal(0.02),
}


def build_model(
    settings: Settings, image_shape: tuple[int, ...], num_classes: int
) -> tuple[Predict, InitParams]:
    """A network as two pure functions.

    Args:
      settings: `model` and `initialisation` count.
      image_shape: (height, width, channels).
      num_classes: number of logits.

    Returns:
      `predict(params, images)`, which gives logits of shape (n, num_classes) for images
      as bytes, and `init(key)`, which gives initial parameters, a pytree of arrays, for a typed key.
    """
    height, width, channels = image_shape
    initializer = INITIALISERS[settings.initialisation]
    shape = (height, width, channels)

    def build(key: jax.Array) -> nnx.Module:
        return LeNet(shape, num_classes, initializer, rngs=nnx.Rngs(key))

    # Everything in this network is a parameter. Training then needs nothing of NNX:
    # plain jit on pytrees is several times quicker than nnx.jit.
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def predict(params: nnx.State, images: jax.Array) -> jax.Array:
        pixels = normalise(images, settings.pixel_range)
        return nnx.merge(graphdef, params)(pixels)

    def init(key: jax.Array) -> nnx.State:
        _, params = nnx.split(build(key))
        return nnx.as_pure(params)

    return predict, init


def _pooled_twice(size: int) -> int:
    """Height or width after twice a 5x5 convolution and a 2x2 maximum."""
    return ((size - 4) // 2 - 4) // 2
