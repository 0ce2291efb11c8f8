"""How likely jumps of the norm b of the truncation leave the minimum."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax.experiments.measure_names import SCALARS
from heavytail_optax.experiments.measures._curvature import eigenvalues_arguments
from heavytail_optax.experiments.measures._problem import (
    Arguments,
    Outcome,
    Problem,
    Tick,
)
from heavytail_optax.experiments.measures.search import Search
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.flatness import (
    EscapeProfile,
    escape_profile,
    gradient_noise_direction,
)

_IMAGES = 200
# Descent has come to its end where its gradient is smaller than this.
_SMALL_GRADIENT = 0.1


def escape_arguments(settings: Settings, search: Search) -> Arguments:
    """Of `flatness.escape_profile`, for each of the three kinds of direction.

    Descent on all training images would take hours: it is on some, evenly spaced, as the
    random labels are those of the last.
    """
    return {
        "jump_norm": settings.method.max_norm,
        "learning_rate": settings.training.learning_rate,
        "max_jumps": search.jumps,
        "num_samples": search.paths,
        "flow_steps": 10,
        "descent_steps": 100,
        "barrier_threshold": 0.1,
        "num_points": 11,
        "images": min(_IMAGES, settings.data.training_examples),
    }


def measure_escape(
    problem: Problem, arguments: Arguments, tick: Tick
) -> Outcome | None:
    """The share of paths that have left after each number of jumps."""
    settings = dict(arguments)
    images = settings.pop("images")
    chosen = np.arange(images) * problem.train.labels.size // images
    train = jax.tree.map(lambda x: x[chosen], problem.train)
    part = dataclasses.replace(problem, train=train)
    top = part.top_eigenvalues(**eigenvalues_arguments(problem.settings, Search()))
    batch = max(1, min(problem.settings.training.batch_size, images // 2))
    directions = {
        "noise": gradient_noise_direction(problem.loss, batch),
        "eigenvector": jax.tree.map(lambda x: x[0], top.vectors),
        "isotropic": "isotropic",
    }
    # On a CPU, paths side by side take twice the time of one after another.
    at_once = 1 if jax.default_backend() == "cpu" else None
    scalars, curves, gradient_norms = {}, {}, []
    for number, (name, direction) in enumerate(directions.items()):
        if tick(number, len(directions)):
            return None
        try:
            profile = escape_profile(
                problem.loss,
                problem.params,
                key=problem.key,
                args=(train,),
                direction=direction,
                samples_at_once=at_once,
                **settings,
            )
        except ValueError as error:
            return _diverged(error)
        last = float(profile.probability[-1])
        scalars[f"escape_{name}"] = (last, _wilson_error(last, settings["num_samples"]))
        curves[f"escape_{name}"] = _columns(profile)
        gradient_norms.append(float(jnp.median(profile.paths.gradient_norms)))
    remark = _remark(arguments, float(top.values[0]), gradient_norms)
    return Outcome(scalars, curves, remark)


def _diverged(error: ValueError) -> Outcome:
    # The loss at the parameters is finite, and all else is ours.
    if "learning_rate" not in str(error):
        raise error
    nothing = {name: (math.nan, None) for name in SCALARS["escape"]}
    return Outcome(nothing, {}, "descent at the learning rate of the run diverges")


def _columns(profile: EscapeProfile) -> dict[str, list[float]]:
    medians = {
        "distance": profile.paths.distances,
        "barrier": profile.paths.barriers,
        "loss": profile.paths.losses,
        "gradient_norm": profile.paths.gradient_norms,
    }
    return {
        "jumps": profile.jumps.tolist(),
        "probability": profile.probability.tolist(),
        "lower": profile.lower.tolist(),
        "upper": profile.upper.tolist(),
        **{
            f"median_{name}": jnp.median(values, axis=0).tolist()
            for name, values in medians.items()
        },
    }


def _wilson_error(share: float, paths: int) -> float:
    """Half of Wilson's interval at one standard deviation: not zero at 0 and 1."""
    inside = share * (1 - share) / paths + 1 / (4 * paths**2)
    return math.sqrt(inside) / (1 + 1 / paths)


def _remark(
    arguments: Arguments, top_eigenvalue: float, gradient_norms: list[float]
) -> str:
    limit = 2 / arguments["learning_rate"]
    if top_eigenvalue > limit:
        return (
            f"descent is unstable at the minimum itself: the largest eigenvalue, "
            f"{top_eigenvalue:.3g}, is above 2 / learning rate = {limit:.3g}"
        )
    if max(gradient_norms) > _SMALL_GRADIENT:
        return (
            f"descent has not come to its end: the median norm of the gradient there is "
            f"up to {max(gradient_norms):.2g}"
        )
    return ""
