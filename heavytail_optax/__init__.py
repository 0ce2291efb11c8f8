"""Truncated heavy-tailed SGD as composable Optax transformations."""

from heavytail_optax import dynamics, flatness, tail_index, tails
from heavytail_optax._inflated_grad import tail_inflated_grad
from heavytail_optax._inflation import InflateGradientNoiseState, inflate_gradient_noise
from heavytail_optax._inflation_weights import (
    group_inflation_factors,
    tail_inflation_weights,
)
from heavytail_optax._noise import HeavyTailedNoiseState, add_heavy_tailed_noise
from heavytail_optax._optimizers import truncated_heavy_tailed_sgd
from heavytail_optax._truncation import TruncateUpdateNormState, truncate_update_norm

__version__ = "0.1.0"

__all__ = (
    "HeavyTailedNoiseState",
    "InflateGradientNoiseState",
    "TruncateUpdateNormState",
    "add_heavy_tailed_noise",
    "dynamics",
    "flatness",
    "group_inflation_factors",
    "inflate_gradient_noise",
    "tail_index",
    "tail_inflated_grad",
    "tail_inflation_weights",
    "tails",
    "truncate_update_norm",
    "truncated_heavy_tailed_sgd",
)
