"""Eigenvalues, trace and density of the Hessian, and the loss along two lines."""

import jax
import jax.numpy as jnp
import optax

import heavytail_optax as hto
from heavytail_optax._keys import tagged_key
from heavytail_optax.flatness._curvature import quadratic_forms
from heavytail_optax.flatness._density import quadrature, smooth
from heavytail_optax.flatness._loss_changes import mean_and_standard_error

from ..measure import (
    LANCZOS,
    Arguments,
    Measure,
    Measurement,
    Tick,
    TrainedNetwork,
    without_progress,
)

# A residual above this share of the eigenvalue is worth a remark.
_TOLERANCE = 0.01
_VECTORS_A_BLOCK = 10


def _eigenvalues(network: TrainedNetwork, arguments: Arguments) -> Measurement:
    del arguments
    values, _, residuals = network.top_eigenvalues
    top, residual = float(values[0]), float(residuals[0])
    remark = ""
    if residual > _TOLERANCE * abs(top):
        remark = f"only known up to {residual:.2g}, the residual of Lanczos' algorithm"
    return Measurement(
        {"top_eigenvalue": (top, None)},
        {"eigenvalues": {"value": values.tolist(), "residual": residuals.tolist()}},
        remark,
    )


EIGENVALUES = Measure(
    name="eigenvalues",
    summary="the largest eigenvalues of the Hessian",
    scalars=("top_eigenvalue",),
    arguments=lambda *_: LANCZOS,
    compute=without_progress(_eigenvalues),
)


def _trace(
    network: TrainedNetwork, arguments: Arguments, tick: Tick
) -> Measurement | None:
    """What `hessian_trace` computes, a block of its vectors after the other."""
    key = tagged_key(network.key, "hessian_trace")
    total, blocks = arguments["num_samples"], []
    for done in range(0, total, _VECTORS_A_BLOCK):
        if tick(done, total):
            return None
        samples = jnp.arange(done, min(done + _VECTORS_A_BLOCK, total))
        forms = quadratic_forms(
            network.loss, network.params, network.args, key, samples
        )
        # Without the wait, all blocks would be begun at once.
        blocks.append(jax.block_until_ready(forms))
    mean, error = mean_and_standard_error(jnp.concatenate(blocks))
    return Measurement({"hessian_trace": (float(mean), float(error))})


TRACE = Measure(
    name="trace",
    summary="the trace of the Hessian",
    scalars=("hessian_trace",),
    arguments=lambda settings, options: {"num_samples": options.samples_of(settings)},
    compute=_trace,
)


def _density(
    network: TrainedNetwork, arguments: Arguments, tick: Tick
) -> Measurement | None:
    """What `hessian_density` computes, one of its vectors after the other."""
    key = tagged_key(network.key, "hessian_density")
    size = sum(x.size for x in jax.tree.leaves(network.params))
    total, parts = arguments["num_samples"], []
    for done in range(total):
        if tick(done, total):
            return None
        part = quadrature(
            network.loss,
            network.params,
            network.args,
            key,
            jnp.array([done]),
            num_matvecs=min(arguments["num_matvecs"], size),
        )
        parts.append(jax.block_until_ready(part))
    nodes, weights = (jnp.concatenate(each) for each in zip(*parts, strict=True))
    width = jnp.asarray(jnp.nan, nodes.dtype)  # the default
    found = smooth(nodes, weights, width, num_points=arguments["num_points"])
    columns = {
        "eigenvalue": found.eigenvalues.tolist(),
        "density": found.density.tolist(),
        "standard_error": found.standard_error.tolist(),
    }
    return Measurement(curves={"density": columns})


DENSITY = Measure(
    name="density",
    summary="the density of the eigenvalues of the Hessian",
    scalars=(),
    arguments=lambda *_: {"num_samples": 3, "num_matvecs": 50, "num_points": 400},
    compute=_density,
    is_of_layers=False,
)


def _line(
    network: TrainedNetwork, arguments: Arguments, tick: Tick
) -> Measurement | None:
    if tick(0, 2):
        return None
    vectors = network.top_eigenvalues.vectors
    if tick(1, 2):
        return None
    key = tagged_key(network.key, "line")
    draws = optax.tree.random_like(key, network.params, jax.random.normal)
    directions = {
        "eigenvector": jax.tree.map(lambda x: x[0], vectors),
        "random": hto.flatness.filter_normalise(draws, network.params),
    }
    curves = {}
    for name, direction in directions.items():
        reach = arguments[f"reach_{name}"]
        line = hto.flatness.loss_line(
            network.loss,
            network.params,
            direction,
            jnp.linspace(-reach, reach, arguments["num_points"]),
            args=(network.train,),
        )
        losses = line.losses.tolist()
        # The sign is arbitrary: the loss rises more to the right.
        losses = losses if losses[-1] >= losses[0] else losses[::-1]
        columns = {"coefficient": line.coefficients.tolist(), "loss": losses}
        curves[f"line_{name}"] = columns
    return Measurement(curves=curves)


LINE = Measure(
    name="line",
    summary="the loss along the top eigenvector and along a random direction",
    scalars=(),
    # The eigenvector has norm one, so two jumps far. The filters of the random direction
    # have the norms of the weights', so as far as Li et al. 2018.
    arguments=lambda settings, _: {
        **LANCZOS,
        "reach_eigenvector": 2 * settings.method.jump_norm,
        "reach_random": 1.0,
        "num_points": 41,
    },
    compute=_line,
    is_of_layers=False,
)
