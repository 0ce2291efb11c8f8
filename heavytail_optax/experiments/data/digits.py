"""scikit-learn's handwritten digits, which are part of its package."""

import numpy as np

from heavytail_optax.experiments.data.dataset import RawSplit

_BLACKEST = 16  # the digits' pixels go from 0 to this


def load_digits(image_size: int) -> RawSplit:
    """All 1,797 digits, resized bilinearly from 8x8 and scaled from [0, 16] to bytes."""
    from sklearn import datasets

    digits = datasets.load_digits()
    images = digits.images.astype(np.int64)
    # In integers, so that every machine rounds to the same bytes.
    weights = _weights(images.shape[1], image_size)
    resized = np.einsum("ij,njk,lk->nil", weights, images, weights)
    whole = _BLACKEST * weights[0].sum() ** 2
    pixels = (2 * 255 * resized + whole) // (2 * whole)
    return RawSplit(pixels.astype(np.uint8)[..., np.newaxis], digits.target)


def _weights(old: int, new: int) -> np.ndarray:
    """Weights of linear interpolation times 2 * new, shape (new, old).

    The centre of pixel i of the new ones lies at (i + 1/2) * old / new - 1/2 among the
    old ones; beyond the outermost centres, the outermost pixel goes on.
    """
    centres = (2 * np.arange(new) + 1) * old - new
    centres = np.clip(centres, 0, 2 * new * (old - 1))
    distances = np.abs(centres[:, np.newaxis] - 2 * new * np.arange(old))
    return np.maximum(0, 2 * new - distances)
