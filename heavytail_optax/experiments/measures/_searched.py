"""PAC-Bayes and maximal sharpness: searches for what the training accuracy bears.

As in Jiang et al. 2020, the deviation is the share of training images that are classified
wrongly because of the perturbation. The ascent of the maximal sharpness is on the
cross-entropy, as that share has no gradient.
"""

from typing import Any

from heavytail_optax.experiments.measures._problem import (
    Arguments,
    Outcome,
    Problem,
)
from heavytail_optax.experiments.measures.search import Search
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.flatness import maximal_sharpness, pac_bayes_sharpness

_BOUNDS = {"lower": 1e-5, "upper": 10.0, "tolerance": 0.01}


def pac_bayes_arguments(settings: Settings, search: Search) -> Arguments:
    """Of `flatness.pac_bayes_sharpness`."""
    return {
        "target": search.target,
        **_BOUNDS,
        "num_samples": search.samples_of(settings),
        "signed": True,
    }


def measure_pac_bayes(problem: Problem, arguments: Arguments) -> Outcome:
    """The most noise that the accuracy bears."""
    found = pac_bayes_sharpness(
        problem.error,
        problem.params,
        key=problem.key,
        args=(problem.train,),
        samples_at_once=1,
        **arguments,
    )
    value, error = float(found.sharpness), float(found.standard_error)
    return Outcome(
        {"pac_bayes_sharpness": (value, error)},
        {"pac_bayes": {"sigma": [float(found.sigma)]}},
        _bound_remark(found, arguments, "noise of standard deviation"),
    )


def maximal_arguments(settings: Settings, search: Search) -> Arguments:
    """Of `flatness.maximal_sharpness`."""
    del settings
    return {
        "target": search.target,
        **_BOUNDS,
        "num_steps": 20,
        "step_size": 2.0,
        "num_restarts": 1,
    }


def measure_maximal(problem: Problem, arguments: Arguments) -> Outcome:
    """The largest ball that the accuracy bears."""
    found = maximal_sharpness(
        problem.loss,
        problem.params,
        key=problem.key,
        args=(problem.train,),
        deviation_fn=problem.error,
        **arguments,
    )
    return Outcome(
        {"maximal_sharpness": (float(found.sharpness), None)},
        {"maximal": {"radius": [float(found.radius)]}},
        _bound_remark(found, arguments, "a ball of radius"),
    )


def _bound_remark(found: Any, arguments: Arguments, what: str) -> str:
    if found.search.hit_upper:
        return f"less than shown: even {what} {arguments['upper']:g} is borne"
    if found.search.hit_lower:
        return f"more than shown: even {what} {arguments['lower']:g} is not borne"
    return ""
