"""Images and labels as a file holds them, and what is checked of all of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from heavytail_optax.experiments.data._errors import DataError


class Arrays(NamedTuple):
    """The images of one split, on the host."""

    images: np.ndarray  # shape=(n, height, width, channels), dtype=uint8
    labels: np.ndarray  # shape=(n,), an integer dtype


def check_labels(where: str, labels: np.ndarray, class_counts: Sequence[int]) -> None:
    """Checks that the labels are those of the published data set, but for their order."""
    num_classes = len(class_counts)
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        raise DataError(
            f"{where}: labels must be from 0 to {num_classes - 1}. "
            f"Got labels from {labels.min()} to {labels.max()} instead."
        )
    counts = np.bincount(labels, minlength=num_classes)
    for label, (count, expected) in enumerate(zip(counts, class_counts, strict=True)):
        if count != expected:
            raise DataError(
                f"{where}: {expected:,} images must have the label {label}. "
                f"Got {count:,} of them, so this is not the published data set."
            )
