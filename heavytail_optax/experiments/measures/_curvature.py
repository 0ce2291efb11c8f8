"""Eigenvalues, trace and density of the Hessian, and the loss along two lines."""

import jax
import jax.numpy as jnp

from heavytail_optax._keys import tagged_key
from heavytail_optax.experiments.measures._problem import (
    Arguments,
    Outcome,
    Problem,
    Tick,
)
from heavytail_optax.experiments.measures.search import Search
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.flatness import (
    filter_normalise,
    hessian_density,
    hessian_trace,
    loss_line,
)

_MATVECS = 50
_POINTS = 400
# A residual above this share of the eigenvalue is worth a remark.
_TOLERANCE = 0.01


def eigenvalues_arguments(settings: Settings, search: Search) -> Arguments:
    """Of `flatness.hessian_eigenvalues`."""
    del settings, search
    return {"num_eigenvalues": 5, "which": "largest", "num_matvecs": _MATVECS}


def measure_eigenvalues(problem: Problem, arguments: Arguments) -> Outcome:
    """The largest eigenvalues of the Hessian."""
    values, _, residuals = problem.top_eigenvalues(**arguments)
    top, residual = float(values[0]), float(residuals[0])
    remark = ""
    if residual > _TOLERANCE * abs(top):
        remark = f"only known up to {residual:.2g}, the residual of Lanczos' algorithm"
    return Outcome(
        {"top_eigenvalue": (top, None)},
        {"eigenvalues": {"value": values.tolist(), "residual": residuals.tolist()}},
        remark,
    )


def trace_arguments(settings: Settings, search: Search) -> Arguments:
    """Of `flatness.hessian_trace`."""
    return {"num_samples": search.samples_of(settings)}


def measure_trace(problem: Problem, arguments: Arguments) -> Outcome:
    """The trace of the Hessian."""
    mean, error = hessian_trace(
        problem.loss,
        problem.params,
        key=problem.key,
        args=(problem.train,),
        **arguments,
    )
    return Outcome({"hessian_trace": (float(mean), float(error))})


def density_arguments(settings: Settings, search: Search) -> Arguments:
    """Of `flatness.hessian_density`."""
    del settings, search
    return {"num_samples": 3, "num_matvecs": _MATVECS, "num_points": _POINTS}


def measure_density(problem: Problem, arguments: Arguments) -> Outcome:
    """The density of the eigenvalues of the Hessian."""
    found = hessian_density(
        problem.loss,
        problem.params,
        key=problem.key,
        args=(problem.train,),
        **arguments,
    )
    columns = {
        "eigenvalue": found.eigenvalues.tolist(),
        "density": found.density.tolist(),
        "standard_error": found.standard_error.tolist(),
    }
    return Outcome(curves={"density": columns})


def line_arguments(settings: Settings, search: Search) -> Arguments:
    """How far and how finely the two lines go.

    Along the eigenvector, of norm one, two jumps far; along the random direction, whose
    filters have the norms of the weights', as far as Li et al. 2018.
    """
    return {
        **eigenvalues_arguments(settings, search),
        "reach_eigenvector": 2 * settings.method.max_norm,
        "reach_random": 1.0,
        "num_points": 41,
    }


def measure_line(problem: Problem, arguments: Arguments, tick: Tick) -> Outcome | None:
    """The loss along the top eigenvector and along a random direction."""
    if tick(0, 2):
        return None
    _, vectors, _ = problem.top_eigenvalues(
        **eigenvalues_arguments(problem.settings, Search())
    )
    if tick(1, 2):
        return None
    directions = {
        "eigenvector": jax.tree.map(lambda x: x[0], vectors),
        "random": filter_normalise(_normal(problem), problem.params),
    }
    curves = {}
    for name, direction in directions.items():
        reach = arguments[f"reach_{name}"]
        coefficients = jnp.linspace(-reach, reach, arguments["num_points"])
        line = loss_line(
            problem.loss,
            problem.params,
            direction,
            coefficients,
            args=(problem.train,),
        )
        losses = line.losses.tolist()
        # The sign is arbitrary: the loss rises more to the right.
        losses = losses if losses[-1] >= losses[0] else losses[::-1]
        curves[f"line_{name}"] = {
            "coefficient": line.coefficients.tolist(),
            "loss": losses,
        }
    return Outcome(curves=curves)


def _normal(problem: Problem):
    """A normal draw for each parameter."""
    leaves, structure = jax.tree.flatten(problem.params)
    keys = jax.random.split(tagged_key(problem.key, "line"), len(leaves))
    draws = [
        jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, draws)
