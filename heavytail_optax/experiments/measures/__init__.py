"""The measures of flatness of a trained network, each with its search settings."""

from heavytail_optax.experiments.measures._expected import Part, pooled
from heavytail_optax.experiments.measures._problem import (
    Outcome,
    Problem,
    Tick,
    new_problem,
)
from heavytail_optax.experiments.measures._registry import MEASURES, Measure

__all__ = (
    "MEASURES",
    "Measure",
    "Outcome",
    "Part",
    "Problem",
    "Tick",
    "new_problem",
    "pooled",
)
