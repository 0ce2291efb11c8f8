"""Bytes of images: their border, and the numbers that a network sees."""

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax.experiments.settings import PixelRange


def normalise(images: jax.Array, pixel_range: PixelRange) -> jax.Array:
    """The input of a network, from bytes.

    Data are kept on the device as bytes, a quarter of the memory of float32. Call this
    in the compiled step, on the images that are about to enter the network.

    Example:
      >>> import jax.numpy as jnp
      >>> normalise(jnp.array([0, 255], jnp.uint8), "minus-one-to-one").tolist()
      [-1.0, 1.0]
    """
    pixels = images.astype(jnp.float32)
    if pixel_range == "zero-to-one":
        return pixels / 255
    return (pixels - 127.5) / 127.5


def pad_to_size(images: np.ndarray, size: int) -> np.ndarray:
    """Puts each image into the middle of a black square."""
    height, width = images.shape[1:3]
    above, left = (size - height) // 2, (size - width) // 2
    below, right = size - height - above, size - width - left
    if above == below == left == right == 0:
        return images
    return np.pad(images, [(0, 0), (above, below), (left, right), (0, 0)])
