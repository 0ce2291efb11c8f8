"""One measurement of the flatness benchmark, by PyHessian: printed as JSON."""

import argparse
import json
import math
import pathlib

import numpy as np
import torch
import torch_networks
from process_timing import limit_threads, timed
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("measure", choices=("eigenvalue", "trace", "density"))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    torch.eig = eig
    network, images, labels = load(arguments.folder)
    if arguments.batch_size is None:
        data = {"data": (images, labels)}
    else:
        pieces = zip(
            images.split(arguments.batch_size),
            labels.split(arguments.batch_size),
            strict=True,
        )
        data = {"dataloader": list(pieces)}
    criterion = torch.nn.CrossEntropyLoss()

    def operator() -> hessian:
        network.zero_grad()
        return hessian(network, criterion, **data, cuda=False)

    def eigenvalue() -> float:
        return operator().eigenvalues()[0][0]

    def trace() -> float:
        # No early stop: two means that agree are no sign that either is right.
        return float(np.mean(operator().trace(maxIter=100, tol=-math.inf)))

    def density() -> float:
        values, weights = operator().density(iter=100, n_v=1)
        return float(np.sum(np.multiply(values, weights)))

    measures = {"eigenvalue": eigenvalue, "trace": trace, "density": density}
    print(json.dumps(timed(measures[arguments.measure], arguments.rounds)))


if __name__ == "__main__":
    main()
