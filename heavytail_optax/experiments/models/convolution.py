"""Convolution and pooling that are quick inside a compiled loop on a CPU.

Images are held as (channels, height, width, n), the batch last, so that whatever is done
to a shifted or pooled image is done to n neighbouring numbers at a time.

XLA's CPU backend runs native convolutions many times slower inside `lax.scan` than
outside of it (jax issue 12868). There, shifted slices of the images and one matrix
product are quicker. On a GPU or TPU the native convolution is, and XLA is free to hold
the axes in whichever order in memory serves it.
"""

from typing import Literal

import jax
import jax.numpy as jnp

Padding = Literal["SAME", "VALID"]

_AXES = ("CHWN", "HWIO", "CHWN")


def convolve(
    images: jax.Array, kernel: jax.Array, padding: Padding = "VALID"
) -> jax.Array:
    """Convolution with stride one.

    `convolve_by_slices` where JAX's default backend is the CPU, `convolve_natively`
    elsewhere. Both give the same numbers but for rounding.

    Example:
      >>> images = jnp.ones((2, 5, 5, 3))
      >>> convolve(images, jnp.ones((3, 3, 2, 4))).shape
      (4, 3, 3, 3)
      >>> convolve(images, jnp.ones((3, 3, 2, 4)), "SAME").shape
      (4, 5, 5, 3)
    """
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


def max_pool(images: jax.Array) -> jax.Array:
    """Largest value of each 2x2 square; an odd last row or column is left out."""
    channels, height, width, n = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2, :]
    squares = even.reshape(channels, height // 2, 2, width // 2, 2, n)
    return squares.max(axis=(2, 4))


def _pad(images: jax.Array, axis: int, size: int) -> jax.Array:
    """Zeros around an axis, as many as "SAME" puts there for a kernel of a size.

    With `jnp.pad`, XLA pads anew for each of the shifted slices. Zeros that it does not
    know to be zeros are put into memory once, which saves 6% of a step of VGG11.
    """
    edge = jax.lax.slice_in_dim(images, 0, 1, axis=axis)
    zeros = jnp.clip(jax.lax.stop_gradient(edge), 0, 0)
    before, after = (size - 1) // 2, size // 2
    return jnp.concatenate([zeros] * before + [images] + [zeros] * after, axis)
