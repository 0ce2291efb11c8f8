"""What the flatness benchmark measures, by this package."""

import pathlib
from collections.abc import Callable

import flatness_networks
import numpy as np

from heavytail_optax import flatness


def build(
    network: str,
    folder: pathlib.Path,
    measure: str,
    batch_size: int | None,
    count: int,
) -> Callable[[], float]:
    """Measures, and waits for the value: the mean of the eigenvalues for a density.

    Args:
      network: its name.
      folder: where it is saved.
      measure: "eigenvalue", "trace" or "density".
      batch_size: images at a time; None for all.
      count: of Lanczos steps, or of random vectors for the trace.
    """
    loss, params, args = flatness_networks.load(network, folder)
    if batch_size is not None:
        loss = flatness.mean_over_batches(loss, batch_size)

    def eigenvalue() -> float:
        result = flatness.hessian_eigenvalues(
            loss, params, key=0, args=args, num_matvecs=count
        )
        return float(result.values[0])

    def trace() -> float:
        result = flatness.hessian_trace(
            loss, params, key=0, args=args, num_samples=count
        )
        return float(result.mean)

    def density() -> float:
        result = flatness.hessian_density(
            loss, params, key=0, args=args, num_samples=1, num_matvecs=count
        )
        return float(np.nansum(np.asarray(result.weights * result.nodes)))

    return {"eigenvalue": eigenvalue, "trace": trace, "density": density}[measure]
