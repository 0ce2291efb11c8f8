"""Convolution and pooling that are quick inside a compiled loop on a CPU.

XLA's CPU backend runs native convolutions several times slower inside `lax.scan` than
outside of it. There, shifted slices of the images and one matrix product are quicker.
On a GPU or TPU the native convolution is.
"""

from typing import Any

import jax
import jax.numpy as jnp


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    strides: Any = 1,
    padding: Any = "VALID",
    **options: Any,
) -> jax.Array:
    """Convolution for `nnx.Conv(..., conv_general_dilated=convolve)`.

    Shifted slices where JAX's default backend is the CPU and the convolution has no
    stride, padding, dilation or groups; `jax.lax.conv_general_dilated` elsewhere. Both
    give the same numbers but for rounding.

    Args:
      images: floats of shape (n, height, width, channels_in).
      kernel: floats of shape (rows, columns, channels_in, channels_out).
      strides: as in `jax.lax.conv_general_dilated`.
      padding: as in `jax.lax.conv_general_dilated`.
      **options: as in `jax.lax.conv_general_dilated`.

    Returns:
      Floats of shape (n, height', width', channels_out).
    """
    if jax.default_backend() == "cpu" and _is_plain(strides, padding, options):
        return convolve_by_slices(images, kernel)
    return jax.lax.conv_general_dilated(images, kernel, strides, padding, **options)


def convolve_by_slices(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Valid convolution with stride one, as one matrix product.

    Args:
      images: floats of shape (n, height, width, channels_in).
      kernel: floats of shape (rows, columns, channels_in, channels_out).

    Returns:
      Floats of shape (n, height - rows + 1, width - columns + 1, channels_out).
    """
    rows, columns, channels_in, channels_out = kernel.shape
    height = images.shape[1] - rows + 1
    width = images.shape[2] - columns + 1
    shifted = [
        images[:, row : row + height, column : column + width, :]
        for row in range(rows)
        for column in range(columns)
    ]
    patches = jnp.concatenate(shifted, axis=-1)
    return patches @ kernel.reshape(rows * columns * channels_in, channels_out)


def max_pool(images: jax.Array) -> jax.Array:
    """Largest value of each 2x2 square; an odd last row or column is left out.

    Args:
      images: shape (n, height, width, channels).

    Returns:
      An array of shape (n, height // 2, width // 2, channels).
    """
    n, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2, :]
    squares = even.reshape(n, height // 2, 2, width // 2, 2, channels)
    return squares.max(axis=(2, 4))


def _is_plain(strides: Any, padding: Any, options: dict[str, Any]) -> bool:
    dilations = (options.get("lhs_dilation"), options.get("rhs_dilation"))
    ones = all(d is None or set(d) == {1} for d in dilations)
    stride_one = strides == 1 or set(strides) == {1}
    one_group = options.get("feature_group_count", 1) == 1
    return ones and stride_one and one_group and padding == "VALID"
