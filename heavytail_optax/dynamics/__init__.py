"""The laboratory of the theory: landscapes, exit times, the limiting Markov chain."""

from heavytail_optax.dynamics._landscape import Landscape
from heavytail_optax.dynamics._landscapes import four_minima, line, quadratic, wells
from heavytail_optax.dynamics._landscapes_in_space import product, random_mixture

__all__ = (
    "Landscape",
    "four_minima",
    "line",
    "product",
    "quadratic",
    "random_mixture",
    "wells",
)
