"""Truncated heavy-tailed SGD as composable Optax transformations."""

import importlib
import types
from typing import TYPE_CHECKING

from heavytail_optax import tails
from heavytail_optax._adaptive_max_norm import adaptive_max_norm
from heavytail_optax._group_inflation import group_inflation_factors
from heavytail_optax._inflate_gradient_noise import (
    InflateGradientNoiseState,
    inflate_gradient_noise,
)
from heavytail_optax._inflate_preconditioned_noise import (
    InflatePreconditionedNoiseState,
    inflate_preconditioned_noise,
)
from heavytail_optax._inflation_weights import (
    balanced_inflation_weights,
    independent_inflation_weights,
    shared_inflation_weights,
)
from heavytail_optax._noise import AddHeavyTailedNoiseState, add_heavy_tailed_noise
from heavytail_optax._optimizers import truncated_heavy_tailed_sgd
from heavytail_optax._summary import summary
from heavytail_optax._tail_inflated_grad import (
    tail_inflated_grad,
    tail_inflated_value_and_grad,
)
from heavytail_optax._truncation import TruncateUpdateNormState, truncate_update_norm
from heavytail_optax._value_grad_and_noise import value_grad_and_noise

if TYPE_CHECKING:
    from heavytail_optax import dynamics, flatness, tail_index

__version__ = "0.1.0"

__all__ = (
    "AddHeavyTailedNoiseState",
    "InflateGradientNoiseState",
    "InflatePreconditionedNoiseState",
    "TruncateUpdateNormState",
    "adaptive_max_norm",
    "add_heavy_tailed_noise",
    "balanced_inflation_weights",
    "dynamics",
    "flatness",
    "group_inflation_factors",
    "independent_inflation_weights",
    "inflate_gradient_noise",
    "inflate_preconditioned_noise",
    "shared_inflation_weights",
    "summary",
    "tail_index",
    "tail_inflated_grad",
    "tail_inflated_value_and_grad",
    "tails",
    "truncate_update_norm",
    "truncated_heavy_tailed_sgd",
    "value_grad_and_noise",
)

# Few programs need them, and they take as long to load as all else.
_LOADED_WHEN_NAMED = ("dynamics", "flatness", "tail_index")


def __getattr__(name: str) -> types.ModuleType:
    if name in _LOADED_WHEN_NAMED:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
