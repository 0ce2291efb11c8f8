"""What the flatness benchmark measures, by PyHessian."""

import json
import math
import pathlib
import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch_networks
from pyhessian import hessian


def load(folder: pathlib.Path) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """The saved network, images and labels; the loss is checked against JAX's."""
    saved = np.load(folder / "arrays.npz")
    description = json.loads((folder / "network.json").read_text())
    network = torch_networks.build(description["model"], description["width"])
    with_weights = [layer for layer in network if list(layer.parameters())]
    for layer, name in zip(with_weights, description["layers"], strict=True):
        kernel = saved[f"{name}['kernel']"]
        order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(kernel.transpose(order)))
            layer.bias.copy_(torch.tensor(saved[f"{name}['bias']"]))
    images = torch.tensor(saved["images"]).permute(0, 3, 1, 2).float()
    images = (images - 127.5) / 127.5
    labels = torch.tensor(saved["labels"]).long()
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(network(images), labels)
    np.testing.assert_allclose(loss.item(), saved["loss"], rtol=1e-4)
    return network, images, labels


def eig(matrix: torch.Tensor, eigenvectors: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """`torch.eig`, which PyTorch no longer has, for symmetric matrices."""
    assert eigenvectors
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors


def build(
    folder: pathlib.Path, measure: str, batch_size: int | None, count: int, threads: int
) -> Callable[[], float]:
    """Measures, and returns the value: the mean of the eigenvalues for a density.

    Args:
      folder: where the network is saved.
      measure: "eigenvalue", "trace" or "density".
      batch_size: images at a time; None for all.
      count: of Lanczos steps, or of random vectors for the trace.
      threads: of PyTorch.
    """
    # PyTorch's own, about how PyHessian calls it.
    warnings.filterwarnings("ignore", "Using backward")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.eig = eig
    network, images, labels = load(folder)
    if batch_size is None:
        data = {"data": (images, labels)}
    else:
        pieces = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        data = {"dataloader": list(pieces)}
    criterion = torch.nn.CrossEntropyLoss()

    def operator() -> hessian:
        network.zero_grad()
        return hessian(network, criterion, **data, cuda=False)

    def eigenvalue() -> float:
        return operator().eigenvalues()[0][0]

    def trace() -> float:
        # No early stop: two means that agree are no sign that either is right.
        return float(np.mean(operator().trace(maxIter=count, tol=-math.inf)))

    def density() -> float:
        values, weights = operator().density(iter=count, n_v=1)
        return float(np.sum(np.multiply(values, weights)))

    return {"eigenvalue": eigenvalue, "trace": trace, "density": density}[measure]
