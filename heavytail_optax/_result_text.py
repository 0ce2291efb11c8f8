"""How results print: numbers with their errors, where they are single numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def is_one_number(value: object) -> bool:
    """Whether it is one number that is known: no batch, and not traced."""
    is_array = isinstance(value, (float, np.generic, np.ndarray, jax.Array))
    return is_array and not isinstance(value, jax.core.Tracer) and not jnp.ndim(value)


def with_error(mean: jax.Array, standard_error: jax.Array) -> str:
    """`0.0012 ± 0.0001`; without an error that is not known."""
    error = float(standard_error)
    return f"{mean:.4g}" if math.isnan(error) else f"{mean:.4g} ± {error:.2g}"
