"""What the flatness benchmark measures, by this package."""

import pathlib
from collections.abc import Callable

import flatness_networks
import jax
import jax.numpy as jnp

from heavytail_optax import flatness
from heavytail_optax.flatness._lanczos import hessian_operator, inner


def build(
    network: str,
    folder: pathlib.Path,
    examples: int,
    batch_size: int | None,
    counts: dict[str, int],
) -> dict[str, Callable[[], float]]:
    """Each measure, which waits for its value; that of a product is the norm.

    Args:
      network: its name.
      folder: where it is saved.
      examples: how many.
      batch_size: examples at a time; None for all.
      counts: Lanczos steps, and random vectors for the trace.
    """
    predict, params, data = flatness_networks.load(network, folder, examples)
    vector = jax.tree.map(jnp.sign, params)

    def loss(params, *data):
        return flatness_networks.loss_of_outputs(predict(params, *data), *data)

    gauss_newton = flatness.gauss_newton_loss(
        predict, flatness_networks.loss_of_outputs
    )
    if batch_size is not None:
        loss = flatness.mean_over_batches(loss, batch_size)
        gauss_newton = flatness.mean_over_batches(gauss_newton, batch_size)

    def norm_of(product):
        def norm(params, *data):
            result = product(params, data)
            return jnp.sqrt(inner(result, result))

        # In one program with all that belongs to it, as the measures are.
        compiled = jax.jit(norm)
        return lambda: float(compiled(params, *data))

    def eigenvalue() -> float:
        steps = counts["eigenvalue"]
        result = flatness.hessian_eigenvalues(
            loss, params, key=0, args=data, num_matvecs=steps
        )
        return float(result.values[0])

    def trace() -> float:
        samples = counts["trace"]
        result = flatness.hessian_trace(
            loss, params, key=0, args=data, num_samples=samples
        )
        return float(result.mean)

    def of_vector(loss):
        return lambda params, data: hessian_operator(loss, params, data)[0](vector)

    return {
        "gradient": norm_of(lambda params, data: jax.grad(loss)(params, *data)),
        "hessian": norm_of(of_vector(loss)),
        "gauss-newton": norm_of(of_vector(gauss_newton)),
        "eigenvalue": eigenvalue,
        "trace": trace,
    }
