"""The figures of the paper's tables, to be set beside ours. Data only.

Wang, Oh, Rhee, "Eliminating Sharp Minima from SGD with Truncated Heavy-tailed Noise",
ICLR 2022 (arXiv 2102.04297): the first table (LeNet and VGG11, constant learning rate)
and the second (VGG11 and VGG16, with data augmentation and a learning-rate schedule).
They come without errors. The settings they were measured with are only partly known, so
that of the names here, which are those of presets, none stands for the paper's settings.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from heavytail_optax.experiments.methods import (
    METHOD_NAMES,
    METHODS,
    MethodName,
)


class PaperFigures(NamedTuple):
    """One column of a table of the paper.

    Attributes:
      test_accuracy: in percent, as printed.
      sharpness: measure -> value.
    """

    test_accuracy: float
    sharpness: Mapping[str, float]


_METHOD_OF: Mapping[str, MethodName] = {
    paper_name: name
    for name in METHOD_NAMES
    if (paper_name := METHODS[name].paper_name) is not None
}

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


def _figures(
    test_accuracy: float,
    expected: float,
    pac_bayes: float | None = None,
    maximal: float | None = None,
) -> PaperFigures:
    values = {
        "expected_sharpness": expected,
        "pac_bayes_sharpness": pac_bayes,
        "maximal_sharpness": maximal,
    }
    known = {name: value for name, value in values.items() if value is not None}
    return PaperFigures(test_accuracy, MappingProxyType(known))


PAPER_FIGURES: Mapping[tuple[str, MethodName], PaperFigures] = MappingProxyType(
    {
        (preset, _METHOD_OF[paper_name]): _figures(accuracy, sharpness)
        for preset, accuracies in _TEST_ACCURACIES.items()
        for paper_name, accuracy, sharpness in zip(
            _FIRST_TABLE, accuracies, _EXPECTED_SHARPNESS[preset], strict=True
        )
    }
    | {
        (preset, _METHOD_OF[paper_name]): _figures(*values)
        for preset, columns in _SECOND_TABLE.items()
        for paper_name, values in columns.items()
    }
)
"""(preset, method) -> what the paper's tables say; what they do not say is not here."""
