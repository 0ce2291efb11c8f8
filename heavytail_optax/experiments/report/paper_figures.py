"""The figures of the paper's tables, to be set beside ours. Data only.

Wang, Oh, Rhee, "Eliminating Sharp Minima from SGD with Truncated Heavy-tailed Noise",
ICLR 2022 (arXiv 2102.04297): the first table (LeNet and VGG11, constant learning rate)
and the second (VGG11 and VGG16, with data augmentation and a learning-rate schedule).
They come without errors. The paper does not give all its settings: the preset names
below are ours, and do not claim to reproduce them.
"""

from collections.abc import Mapping
from types import MappingProxyType

_COLUMNS = ("expected_sharpness", "pac_bayes_sharpness", "maximal_sharpness")
# Preset, method, test accuracy in percent, and the sharpnesses that the table has.
_ROWS = """
corrupted-fashion-mnist  sgd-large-batch  68.66  0.032
corrupted-fashion-mnist  sgd              69.20  0.008
corrupted-fashion-mnist  sgd-truncated    68.77  0.009
corrupted-fashion-mnist  inflated         64.43  0.047
corrupted-fashion-mnist  independent      69.47  0.003
corrupted-fashion-mnist  shared           70.06  0.002
svhn                     sgd-large-batch  82.87  0.694
svhn                     sgd              85.92  0.037
svhn                     sgd-truncated    85.95  0.041
svhn                     inflated         38.85  0.012
svhn                     independent      88.42  0.002
svhn                     shared           88.37  0.005
cifar10                  sgd-large-batch  69.39  2.043
cifar10                  sgd              74.42  0.050
cifar10                  sgd-truncated    74.38  0.039
cifar10                  inflated         40.50  2.046
cifar10                  independent      75.69  0.024
cifar10                  shared           75.87  0.037
cifar10-augmented        sgd-truncated    89.54  0.167  1.31e4  1.66e4
cifar10-augmented        independent      90.76  0.085  9e3     1.29e4
cifar10-augmented        shared           90.45  0.096  1e4     1.22e4
cifar100-augmented       sgd-truncated    56.32  0.857  2.49e4  2.75e4
cifar100-augmented       independent      65.44  0.441  1.9e4   2.12e4
cifar100-augmented       shared           62.99  0.479  1.98e4  2.16e4
"""


def _figures() -> Mapping[tuple[str, str], Mapping[str, float]]:
    figures = {}
    for row in _ROWS.strip().splitlines():
        preset, method, accuracy, *sharpness = row.split()
        measured = dict(zip(_COLUMNS, map(float, sharpness), strict=False))
        share = round(float(accuracy) / 100, 6)
        figure = MappingProxyType({"test_accuracy": share, **measured})
        figures[preset, method] = figure
    return MappingProxyType(figures)


PAPER_FIGURES = _figures()
"""(preset, method) -> what the paper's tables say; accuracies are from 0 to 1."""
