"""Convolutions with stride one, in the form that is quick on CPUs, and XLA's own.

Images are (channels, height, width, n) and kernels (rows, columns, channels of the images,
channels of the result).

XLA's CPU backend runs native convolutions many times slower inside `lax.scan` than
outside of it (jax issue 12868). There, shifted slices of the images and one matrix
product are quicker. On a GPU or TPU the native convolution is, and XLA is free to hold
the axes in whichever order in memory serves it.
"""

from typing import Literal

import jax
import jax.numpy as jnp

Padding = Literal["SAME", "VALID"]
Precision = Literal["float32", "bfloat16"]

_AXES = ("CHWN", "HWIO", "CHWN")


def convolve_natively(
    images: jax.Array, kernel: jax.Array, padding: Padding = "VALID"
) -> jax.Array:
    """XLA's own operation."""
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), padding, dimension_numbers=_AXES
    )


def convolve_by_slices(
    images: jax.Array, kernel: jax.Array, padding: Padding = "VALID"
) -> jax.Array:
    """One matrix product with all shifted images."""
    rows, columns, _, channels_out = kernel.shape
    patches, (height, width) = patches_of(images, (rows, columns), padding)
    product = kernel.reshape(-1, channels_out).T @ patches
    return product.reshape(channels_out, height, width, -1)


def patches_of(
    images: jax.Array, size: tuple[int, int], padding: Padding
) -> tuple[jax.Array, tuple[int, int]]:
    """All shifted images as a matrix, and the height and width of each.

    Its rows are the shifts with the channels of each, its columns the places in all
    images.
    """
    rows, columns = size
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
    patches = jnp.concatenate(shifted).reshape(len(shifted) * images.shape[0], -1)
    return patches, (height, width)


def _pad(images: jax.Array, axis: int, size: int) -> jax.Array:
    """Zeros around an axis, as many as "SAME" puts there for a kernel of a size.

    With `jnp.pad`, XLA pads anew for each of the shifted slices. Zeros that it does not
    know to be zeros are put into memory once, which saves 6% of a step of VGG11.
    """
    edge = jax.lax.slice_in_dim(images, 0, 1, axis=axis)
    zeros = jnp.clip(jax.lax.stop_gradient(edge), 0, 0)
    before, after = (size - 1) // 2, size // 2
    return jnp.concatenate([zeros] * before + [images] + [zeros] * after, axis)
