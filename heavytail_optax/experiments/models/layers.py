"""The layers that all networks share, and their initial weights.

Images are held as (channels, height, width, n), the batch last, so that whatever is done
to a shifted or pooled image is done to n neighbouring numbers at a time.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from .bfloat16 import (
    convolve_by_slices_in_bfloat16,
    convolve_natively_in_bfloat16,
    dot_general,
)
from .convolutions import Padding, Precision, convolve_by_slices, convolve_natively


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


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    padding: Padding = "VALID",
    precision: Precision = "float32",
) -> jax.Array:
    """Convolution with stride one, in the way that is quick on JAX's default backend."""
    is_cpu = jax.default_backend() == "cpu"
    if precision == "bfloat16":
        in_bfloat16 = (
            convolve_by_slices_in_bfloat16 if is_cpu else convolve_natively_in_bfloat16
        )
        return in_bfloat16(images, kernel, padding)
    return (convolve_by_slices if is_cpu else convolve_natively)(
        images, kernel, padding
    )


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
