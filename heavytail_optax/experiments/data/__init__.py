"""Images and labels of a job, from three sources, and the corruption of labels."""

from heavytail_optax.experiments.data._corruption import corrupt_labels
from heavytail_optax.experiments.data._dataset import (
    Dataset,
    Split,
    describe_dataset,
    is_same_data,
)
from heavytail_optax.experiments.data._errors import DataError
from heavytail_optax.experiments.data._loading import load_dataset
from heavytail_optax.experiments.data._pixels import normalise

__all__ = (
    "DataError",
    "Dataset",
    "Split",
    "corrupt_labels",
    "describe_dataset",
    "is_same_data",
    "load_dataset",
    "normalise",
)
