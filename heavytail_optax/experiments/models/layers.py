"""The layers that all networks share, and their initial weights."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
from flax import nnx

from heavytail_optax.experiments.models.convolution import Padding, convolve


class Initialisation(NamedTuple):
    """Laws of the initial weights. The biases of convolutions start at zero."""

    convolution: nnx.Initializer
    dense: nnx.Initializer
    dense_bias: Callable[[int], nnx.Initializer]
    """For the number of inputs."""


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
    """Convolution with stride one, and a bias for each channel.

    Args:
      channels_in: of the images.
      channels_out: of the result.
      size: height and width of the kernel.
      padding: "SAME" or "VALID".
      initialisation: of the kernel.
      rngs: where the initial kernel comes from.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        size: int,
        padding: Padding,
        initialisation: Initialisation,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (size, size, channels_in, channels_out)
        self.padding = padding
        self.kernel = nnx.Param(initialisation.convolution(rngs.params(), shape))
        self.bias = nnx.Param(jax.numpy.zeros(channels_out))

    def __call__(self, images: jax.Array) -> jax.Array:
        """For images of shape (channels_in, height, width, n)."""
        hidden = convolve(images, self.kernel[...], self.padding)
        return hidden + self.bias[:, None, None, None]


def dense(
    num_inputs: int,
    num_outputs: int,
    initialisation: Initialisation,
    *,
    rngs: nnx.Rngs,
) -> nnx.Linear:
    """A dense layer, for inputs of shape (n, num_inputs)."""
    return nnx.Linear(
        num_inputs,
        num_outputs,
        kernel_init=initialisation.dense,
        bias_init=initialisation.dense_bias(num_inputs),
        rngs=rngs,
    )


def batch_last(images: jax.Array) -> jax.Array:
    """(n, height, width, channels) -> (channels, height, width, n)."""
    return images.transpose(3, 1, 2, 0)


def flatten(images: jax.Array) -> jax.Array:
    """(channels, height, width, n) -> (n, channels * height * width)."""
    return images.reshape(-1, images.shape[-1]).T


def scaled(width: float, size: int) -> int:
    """`size` times `width`, rounded, and at least 1.

    Example:
      >>> scaled(0.25, 10)
      2
      >>> scaled(0.01, 10)
      1
    """
    return max(1, round(width * size))
