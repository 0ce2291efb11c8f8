"""What the flatness benchmark measures, by curvlinops and by hessian-eigenthings."""

import json
import pathlib
import re
from collections.abc import Callable

import curvlinops
import hessian_eigenthings
import numpy as np
import torch
import torch_networks
from language_model import HEADS
from scipy.sparse.linalg import eigsh

Data = tuple[torch.Tensor, torch.Tensor]


def load(folder: pathlib.Path, examples: int) -> tuple[torch.nn.Module, Data]:
    """The saved network and the first inputs and labels; its loss must be JAX's."""
    saved = np.load(folder / "arrays.npz")
    description = json.loads((folder / "network.json").read_text())
    inputs = torch.tensor(saved["inputs"])
    labels = torch.tensor(saved["labels"]).long()
    if description["model"] == "gpt":
        weights = {
            "_".join(re.findall(r"\w+", key)): torch.tensor(saved[key])
            for key in saved
            if key.startswith("[")
        }
        network = torch_networks.LanguageModel(weights, HEADS)
    else:
        network = torch_networks.build(description["model"], description["width"])
        with_weights = [layer for layer in network if list(layer.parameters())]
        for layer, name in zip(with_weights, description["layers"], strict=True):
            kernel = saved[f"{name}['kernel']"]
            order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(kernel.transpose(order)))
                layer.bias.copy_(torch.tensor(saved[f"{name}['bias']"]))
        inputs = (inputs.permute(0, 3, 1, 2).float() - 127.5) / 127.5
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(network(inputs), labels)
    np.testing.assert_allclose(loss.item(), saved["loss"], rtol=1e-4)
    return network, (inputs[:examples], labels[:examples])


def build(
    library: str,
    folder: pathlib.Path,
    examples: int,
    counts: dict[str, int],
) -> dict[str, Callable[[], float]]:
    """Each measure; it returns the value, of a product the norm.

    Args:
      library: "curvlinops" or "hessian-eigenthings".
      folder: where the network is saved.
      examples: how many, all at once.
      counts: Lanczos steps, and random vectors for the trace.
    """
    torch.manual_seed(0)
    network, data = load(folder, examples)
    params = list(network.parameters())
    vector = torch.cat([x.detach().sign().flatten() for x in params])
    criterion = torch.nn.CrossEntropyLoss()

    def gradient() -> float:
        loss = criterion(network(data[0]), data[1])
        pieces = torch.autograd.grad(loss, params)
        return torch.cat([x.flatten() for x in pieces]).norm().item()

    make = _curvlinops if library == "curvlinops" else _eigenthings
    of_library = make(network, criterion, data, vector, counts)
    return {"gradient": gradient, **of_library}


def _curvlinops(network, criterion, data, vector, counts):
    arguments = (network, criterion, list(network.parameters()), [data])
    hessian = curvlinops.HessianLinearOperator(*arguments, check_deterministic=False)
    ggn = curvlinops.GGNLinearOperator(*arguments, check_deterministic=False)

    def eigenvalue() -> float:
        settings = {"ncv": counts["eigenvalue"], "tol": 1e-3, "which": "LA"}
        values = eigsh(hessian.to_scipy(), 1, return_eigenvectors=False, **settings)
        return float(values[0])

    return {
        "hessian": lambda: (hessian @ vector).norm().item(),
        "gauss-newton": lambda: (ggn @ vector).norm().item(),
        "eigenvalue": eigenvalue,
        "trace": lambda: curvlinops.hutchinson_trace(hessian, counts["trace"]).item(),
    }


def _eigenthings(network, criterion, data, vector, counts):
    of_loss = hessian_eigenthings.supervised_loss(criterion)
    hessian = hessian_eigenthings.HessianOperator(network, [data], of_loss)
    ggn = hessian_eigenthings.GGNOperator(
        *(network, [data]),
        hessian_eigenthings.supervised_forward,
        hessian_eigenthings.supervised_loss_of_output(criterion),
    )

    def eigenvalue() -> float:
        settings = {"k": 1, "max_iter": counts["eigenvalue"], "which": "LA"}
        found = hessian_eigenthings.lanczos(hessian, **settings, seed=0)
        return float(found.eigenvalues[0])

    def trace() -> float:
        found = hessian_eigenthings.hutchinson(
            hessian, num_samples=counts["trace"], seed=0
        )
        return float(found.estimate)

    return {
        "hessian": lambda: hessian.matvec(vector).norm().item(),
        "gauss-newton": lambda: ggn.matvec(vector).norm().item(),
        "eigenvalue": eigenvalue,
        "trace": trace,
    }
