"""The laboratory of the theory: landscapes, exit times, the limiting Markov chain."""

from heavytail_optax.dynamics._exit_times import (
    FirstExits,
    exponential_p_value,
    first_exit_times,
)
from heavytail_optax.dynamics._jump_counts import jumps_to_leave
from heavytail_optax.dynamics._landscape import Landscape
from heavytail_optax.dynamics._landscapes import (
    four_minima,
    landscape_on_line,
    quadratic,
    wells_landscape,
)
from heavytail_optax.dynamics._landscapes_in_space import (
    product_landscape,
    random_mixture,
)
from heavytail_optax.dynamics._markov_chain import LimitChain, markov_chain
from heavytail_optax.dynamics._occupation import Occupation, occupation
from heavytail_optax.dynamics._process import (
    OptaxProcess,
    Process,
    SgdProcess,
    optax_process,
    sgd_process,
)
from heavytail_optax.dynamics._rare_events import (
    RareEventSampling,
    RareExitRate,
    rare_exit_rate,
)
from heavytail_optax.dynamics._simulate import Simulation, simulate
from heavytail_optax.dynamics._theory import ExitRates, exit_rates

__all__ = (
    "ExitRates",
    "FirstExits",
    "Landscape",
    "LimitChain",
    "Occupation",
    "OptaxProcess",
    "Process",
    "RareEventSampling",
    "RareExitRate",
    "SgdProcess",
    "Simulation",
    "exit_rates",
    "exponential_p_value",
    "first_exit_times",
    "four_minima",
    "jumps_to_leave",
    "landscape_on_line",
    "markov_chain",
    "occupation",
    "optax_process",
    "product_landscape",
    "quadratic",
    "random_mixture",
    "rare_exit_rate",
    "sgd_process",
    "simulate",
    "wells_landscape",
)
