"""The networks of `heavytail_optax.experiments.models.networks` in PyTorch."""

from torch import nn

from heavytail_optax.experiments.models.layers import scaled
from heavytail_optax.experiments.models.networks import CONFIGURATIONS


def build(model: str, width: float, num_classes: int = 10) -> nn.Sequential:
    """A network by its name, for images of 28x28x1 (lenet) or 32x32x3 (the others)."""
    if model == "lenet":
        return _lenet(width, num_classes)
    return _vgg(model, width, num_classes)


def _lenet(width: float, num_classes: int) -> nn.Sequential:
    hidden, units = scaled(width, 10), scaled(width, 50)
    return nn.Sequential(
        nn.Conv2d(1, hidden, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(hidden, hidden, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * hidden, units),
        nn.ReLU(),
        nn.Linear(units, num_classes),
    )


def _vgg(model: str, width: float, num_classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels, units = 3, scaled(width, 512)
    for block in CONFIGURATIONS[model]:
        for published in block:
            out = scaled(width, published)
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(inplace=True)]
            channels = out
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(channels, units),
        nn.ReLU(inplace=True),
        nn.Linear(units, units),
        nn.ReLU(inplace=True),
        nn.Linear(units, num_classes),
    )
