"""The figures of the paper's tables, to be set beside ours. Data only.

Wang, Oh, Rhee, "Eliminating Sharp Minima from SGD with Truncated Heavy-tailed Noise",
ICLR 2022 (arXiv 2102.04297): the first table (LeNet and VGG11, constant learning rate)
and the second (VGG11 and VGG16, with data augmentation and a learning-rate schedule).
They come without errors. The paper does not give all its settings: the preset names
below are ours, and do not claim to reproduce them.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ..methods import METHODS

_FIRST_TABLE = ("LB", "SB", "SB+Clip", "SB+Noise", "Our 1", "Our 2")
_TEST_ACCURACIES = {
    "corrupted-fashion-mnist": (68.66, 69.20, 68.77, 64.43, 69.47, 70.06),
    "svhn": (82.87, 85.92, 85.95, 38.85, 88.42, 88.37),
    "cifar10": (69.39, 74.42, 74.38, 40.50, 75.69, 75.87),
}
_EXPECTED_SHARPNESS = {
    "corrupted-fashion-mnist": (0.032, 0.008, 0.009, 0.047, 0.003, 0.002),
    "svhn": (0.694, 0.037, 0.041, 0.012, 0.002, 0.005),
    "cifar10": (2.043, 0.050, 0.039, 2.046, 0.024, 0.037),
}
# Test accuracy, expected, PAC-Bayes and maximal sharpness.
_SECOND_TABLE = {
    "cifar10-augmented": {
        "SB+Clip": (89.54, 0.167, 1.31e4, 1.66e4),
        "Our 1": (90.76, 0.085, 9e3, 1.29e4),
        "Our 2": (90.45, 0.096, 1e4, 1.22e4),
    },
    "cifar100-augmented": {
        "SB+Clip": (56.32, 0.857, 2.49e4, 2.75e4),
        "Our 1": (65.44, 0.441, 1.9e4, 2.12e4),
        "Our 2": (62.99, 0.479, 1.98e4, 2.16e4),
    },
}
_COLUMNS = (
    *("test_accuracy", "expected_sharpness", "pac_bayes_sharpness"),
    "maximal_sharpness",
)


def _columns() -> Mapping[tuple[str, str], tuple[float, ...]]:
    """(preset, name in the paper) -> the figures of its column."""
    columns = {
        (preset, name): (accuracy, sharpness)
        for preset, accuracies in _TEST_ACCURACIES.items()
        for name, accuracy, sharpness in zip(
            _FIRST_TABLE, accuracies, _EXPECTED_SHARPNESS[preset], strict=True
        )
    }
    return columns | {
        (preset, name): figures
        for preset, by_name in _SECOND_TABLE.items()
        for name, figures in by_name.items()
    }


_NAMES = {method.paper_name: name for name, method in METHODS.items()}

PAPER_FIGURES: Mapping[tuple[str, str], Mapping[str, float]] = MappingProxyType(
    {
        (preset, _NAMES[name]): MappingProxyType(
            dict(zip(_COLUMNS, (round(accuracy / 100, 6), *sharpness), strict=False))
        )
        for (preset, name), (accuracy, *sharpness) in _columns().items()
    }
)
"""(preset, method) -> what the paper's tables say; accuracies are from 0 to 1."""
