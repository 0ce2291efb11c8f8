"""The network of a job, as a pure function and a pytree."""

from collections.abc import Callable

import jax
from flax import nnx

from heavytail_optax.experiments.layers import INITIALISATIONS
from heavytail_optax.experiments.lenet import LeNet
from heavytail_optax.experiments.setting_rules import message
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.vgg import CONFIGURATIONS, VGG

Predict = Callable[[nnx.State, jax.Array], jax.Array]


def build_model(
    settings: Settings,
    key: jax.Array,
    image_shape: tuple[int, ...],
    num_classes: int,
) -> tuple[Predict, nnx.State]:
    """A network as a pure function, and its initial parameters.

    Args:
      settings: `model`, `width` and `initialisation` count.
      key: a typed key for the initial weights.
      image_shape: (height, width, channels).
      num_classes: number of logits.

    Returns:
      `predict(params, images)`, which gives logits of shape (n, num_classes), and the
      parameters, a pytree of arrays.

    Raises:
      ValueError: if the images are too small for the network.
    """
    network = LeNet if settings.model == "lenet" else VGG
    height, width, channels = image_shape
    if min(height, width) < network.min_image_size:
        accepted = f"at least {network.min_image_size} for {settings.model}"
        raise ValueError(message("image_size", accepted, min(height, width)))
    shape = (height, width, channels)
    law, rngs = INITIALISATIONS[settings.initialisation], nnx.Rngs(key)
    if network is LeNet:
        model = LeNet(shape, num_classes, law, settings.width, rngs=rngs)
    else:
        blocks = CONFIGURATIONS[settings.model]
        model = VGG(blocks, shape, num_classes, law, settings.width, rngs=rngs)
    # Everything in these networks is a parameter. Training then needs nothing of NNX:
    # plain jit on pytrees is several times quicker than nnx.jit.
    graphdef, params = nnx.split(model)

    def predict(params: nnx.State, images: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(images)

    return predict, nnx.as_pure(params)
