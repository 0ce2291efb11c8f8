"""The layers that all networks share, and their initial weights.

Images are held as (channels, height, width, n), the batch last, so that whatever is done
to a shifted or pooled image is done to n neighbouring numbers at a time.

XLA's CPU backend runs native convolutions many times slower inside `lax.scan` than
outside of it (jax issue 12868). There, shifted slices of the images and one matrix
product are quicker. On a GPU or TPU the native convolution is, and XLA is free to hold
the axes in whichever order in memory serves it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Padding = Literal["SAME", "VALID"]

_AXES = ("CHWN", "HWIO", "CHWN")


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
        self.bias = nnx.Param(jnp.zeros(channels_out))

    def __call__(self, images: jax.Array) -> jax.Array:
        """For images of shape (channels_in, height, width, n)."""
        hidden = convolve(images, self.kernel[...], self.padding)
        return hidden + self.bias[:, None, None, None]


def dense(
    num_inputs: int, num_outputs: int, initialisation: Initialisation, *, rngs: nnx.Rngs
) -> nnx.Linear:
    """A dense layer, for inputs of shape (n, num_inputs)."""
    return nnx.Linear(
        num_inputs,
        num_outputs,
        kernel_init=initialisation.dense,
        bias_init=initialisation.dense_bias(num_inputs),
        rngs=rngs,
    )


def convolve(
    images: jax.Array, kernel: jax.Array, padding: Padding = "VALID"
) -> jax.Array:
    """Convolution with stride one, in the way that is quick on JAX's default backend."""
    is_cpu = jax.default_backend() == "cpu"
    function = convolve_by_slices if is_cpu else convolve_natively
    return function(images, kernel, padding)


def convolve_natively(
    images: jax.Array, kernel: jax.Array, padding: Padding = "VALID"
) -> jax.Array:
    """`convolve` as XLA's own operation."""
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), padding, dimension_numbers=_AXES
    )


def convolve_by_slices(
    images: jax.Array, kernel: jax.Array, padding: Padding = "VALID"
) -> jax.Array:
    """`convolve` as one matrix product with all shifted images."""
    rows, columns, channels_in, channels_out = kernel.shape
    if padding == "SAME":
        images = _pad(_pad(images, 1, rows), 2, columns)
    height = images.shape[1] - rows + 1
    width = images.shape[2] - columns + 1
    shifted = [
        images[:, row : row + height, column : column + width, :]
        for row in range(rows)
        for column in range(columns)
    ]
    # Two axes, not four: XLA takes a product over four in twice the time.
    patches = jnp.concatenate(shifted).reshape(rows * columns * channels_in, -1)
    product = kernel.reshape(rows * columns * channels_in, channels_out).T @ patches
    return product.reshape(channels_out, height, width, -1)


def _pad(images: jax.Array, axis: int, size: int) -> jax.Array:
    """Zeros around an axis, as many as "SAME" puts there for a kernel of a size.

    With `jnp.pad`, XLA pads anew for each of the shifted slices. Zeros that it does not
    know to be zeros are put into memory once, which saves 6% of a step of VGG11.
    """
    edge = jax.lax.slice_in_dim(images, 0, 1, axis=axis)
    zeros = jnp.clip(jax.lax.stop_gradient(edge), 0, 0)
    before, after = (size - 1) // 2, size // 2
    return jnp.concatenate([zeros] * before + [images] + [zeros] * after, axis)


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
