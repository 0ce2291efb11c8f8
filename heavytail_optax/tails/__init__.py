"""Heavy-tailed (and light-tailed) distributions, accurate far into the tail."""

from heavytail_optax.tails._alpha_stable import alpha_stable
from heavytail_optax.tails._gaussian import gaussian
from heavytail_optax.tails._pareto import lomax, pareto, symmetric_pareto
from heavytail_optax.tails._student_t import student_t
from heavytail_optax.tails._tail import Tail

__all__ = (
    "Tail",
    "alpha_stable",
    "gaussian",
    "lomax",
    "pareto",
    "student_t",
    "symmetric_pareto",
)
