"""Random crops and flips of training images, inside the compiled step."""

import dm_pix
import jax
import jax.numpy as jnp

PADDING = 4


def augment(key: jax.Array, images: jax.Array) -> jax.Array:
    """Shifts each image by up to four pixels and mirrors every second one.

    Each image gets a black border of `PADDING` pixels, then a window of its own size is
    cut out at one of the 9 x 9 places, all equally likely, and flipped left to right
    with probability 1/2. Images are independent of each other.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> white = jnp.full((2, 8, 8, 3), 255, jnp.uint8)
      >>> augmented = augment(jax.random.key(0), white)
      >>> augmented.shape, augmented.dtype.name
      ((2, 8, 8, 3), 'uint8')
    """
    border = [(0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)]
    padded = jnp.pad(images, border)

    def crop_and_flip(key: jax.Array, image: jax.Array) -> jax.Array:
        crop_key, flip_key = jax.random.split(key)
        image = dm_pix.random_crop(crop_key, image, images.shape[1:])
        return dm_pix.random_flip_left_right(flip_key, image)

    keys = key if key.ndim else jax.random.split(key, images.shape[0])
    return jax.vmap(crop_and_flip)(keys, padded)
