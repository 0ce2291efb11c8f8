"""Parameters of a tail: numbers are checked; a bad traced value becomes NaN."""

import numbers
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from heavytail_optax._typing import Scalar
from heavytail_optax._validation import check_scalar, in_float32


def as_parameter(
    function: str,
    argument: str,
    value: Scalar,
    accepted: str,
    is_valid: Callable[[float], bool],
) -> Scalar:
    """Checks a scalar parameter. Numbers become floats, so that equal tails hash equal.

    Returns:
      A Python float, or the unchanged array or tracer.
    """
    check_scalar(function, argument, value, accepted, is_valid)
    if isinstance(value, (numbers.Real, np.ndarray)):
        return float(value)
    return value


def positive_parameter(function: str, argument: str, value: Scalar) -> Scalar:
    """Checks that a parameter is a positive finite number, or traced."""
    return as_parameter(
        function,
        argument,
        value,
        "a positive number, finite in float32",
        lambda x: 0.0 < in_float32(x) < float("inf"),
    )


def positive_or_nan(value: ArrayLike, dtype: DTypeLike) -> jax.Array:
    """The parameter in `dtype`; NaN if it is traced and not positive and finite."""
    parameter = jnp.asarray(value, dtype)
    return jnp.where((parameter > 0) & (parameter < jnp.inf), parameter, jnp.nan)


def power_of_two(exponent: int, alpha: Scalar) -> float:
    """`2^(exponent / alpha)`, or infinity if that exceeds the largest float."""
    power = exponent / float(alpha)
    return 2.0**power if power < sys.float_info.max_exp else float("inf")
