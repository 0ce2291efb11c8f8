"""The laboratory of the theory: landscapes, exit times, the limiting Markov chain."""

from heavytail_optax.dynamics._jump_counts import jumps_to_leave
from heavytail_optax.dynamics._landscape import Landscape
from heavytail_optax.dynamics._landscapes import four_minima, line, quadratic, wells
from heavytail_optax.dynamics._landscapes_in_space import product, random_mixture
from heavytail_optax.dynamics._markov_chain import LimitChain, markov_chain
from heavytail_optax.dynamics._rare_events import RareExitRate, rare_exit_rate
from heavytail_optax.dynamics._theory import ExitRates, exit_rates

__all__ = (
    "ExitRates",
    "Landscape",
    "LimitChain",
    "RareExitRate",
    "exit_rates",
    "four_minima",
    "jumps_to_leave",
    "line",
    "markov_chain",
    "product",
    "quadratic",
    "random_mixture",
    "rare_exit_rate",
    "wells",
)
