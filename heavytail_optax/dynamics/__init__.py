"""The laboratory of the theory: landscapes, exit times, the limiting Markov chain."""

from heavytail_optax.dynamics._exit_times import (
    FirstExits,
    exponential_p_value,
    first_exit_times,
)
from heavytail_optax.dynamics._landscape import Landscape
from heavytail_optax.dynamics._landscapes import four_minima, line, quadratic, wells
from heavytail_optax.dynamics._landscapes_in_space import product, random_mixture
from heavytail_optax.dynamics._occupation import Occupation, occupation
from heavytail_optax.dynamics._process import (
    OptaxProcess,
    Process,
    SgdProcess,
    optax_process,
    sgd_process,
)
from heavytail_optax.dynamics._simulate import Simulation, simulate

__all__ = (
    "FirstExits",
    "Landscape",
    "Occupation",
    "OptaxProcess",
    "Process",
    "SgdProcess",
    "Simulation",
    "exponential_p_value",
    "first_exit_times",
    "four_minima",
    "line",
    "occupation",
    "optax_process",
    "product",
    "quadratic",
    "random_mixture",
    "sgd_process",
    "simulate",
    "wells",
)
