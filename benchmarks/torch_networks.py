"""The networks of `heavytail_optax.experiments.models.networks` in PyTorch.

And the transformer of `language_model.py`.
"""

import torch
from torch import nn

from heavytail_optax.experiments.models.networks import CONFIGURATIONS, scaled


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


class LanguageModel(nn.Module):
    """The transformer, with its weights as they are named and oriented in JAX."""

    def __init__(self, weights: dict[str, torch.Tensor], heads: int) -> None:
        super().__init__()
        self.weights = nn.ParameterDict(weights)
        self.heads = heads
        self.layers = sum(name.endswith("queries") for name in weights)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the next token, (n, tokens, length): PyTorch's order for its loss."""
        x = self.weights["tokens"][tokens] + self.weights["places"]
        for layer in range(self.layers):
            x = self._block(layer, x)
        return (_normalised(x) @ self.weights["tokens"].T).movedim(-1, 1)

    def _block(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        queries, joined, up, down = (
            self.weights[f"blocks_{layer}_{name}"]
            for name in ("queries", "joined", "up", "down")
        )
        heads = (_normalised(x) @ queries).unflatten(-1, (3, self.heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        # The fused attention of PyTorch has no forward derivative.
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(later, -torch.inf).softmax(-1) @ v
        x = x + mixed.transpose(1, 2).flatten(2) @ joined
        grown = nn.functional.gelu(_normalised(x) @ up, approximate="tanh")
        return x + grown @ down


def _normalised(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.layer_norm(x, x.shape[-1:])
