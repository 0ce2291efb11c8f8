"""Checks of the arguments that estimators share: samples, axis, count, confidence."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from heavytail_optax._typing import Scalar
from heavytail_optax._validation import (
    check_count,
    check_scalar,
    is_integer,
    type_error,
    value_error,
)
from heavytail_optax.tail_index._centring import as_samples

_SAMPLES = "an array of real floating numbers"


def check_draws(
    function: str,
    samples: npt.ArrayLike,
    axis: int | None = -1,
    least: int = 2,
    argument: str = "samples",
) -> jax.Array | np.ndarray:
    """The samples in their own dtype, with the axis of the draws last.

    Args:
      function: name of the public function, for the message.
      samples: what the user passed.
      axis: the axis of the draws, or None for all axes together.
      least: the least number of draws.
      argument: name of the argument, for the message.

    Returns:
      A JAX array, or a NumPy array if the samples are one.

    Raises:
      TypeError: if the samples are not real floating numbers, or the axis is not an
        integer.
      ValueError: if there is no such axis, or it has too few draws.
    """
    is_jax = isinstance(samples, jax.Array) or hasattr(samples, "__jax_array__")
    if isinstance(samples, (list, tuple)) or (
        hasattr(samples, "__array__") and not is_jax
    ):
        try:
            samples = np.asarray(samples)
        except ValueError:
            raise type_error(function, argument, _SAMPLES, samples) from None
    dtype = getattr(samples, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise type_error(function, argument, _SAMPLES, samples)
    accepted = f"None or an axis of the samples, of shape {samples.shape}"
    if axis is None:
        samples = samples.reshape(-1)
    elif not is_integer(axis):
        raise type_error(function, "axis", accepted, axis)
    elif not -samples.ndim <= axis < samples.ndim:
        if samples.ndim:
            raise value_error(function, "axis", accepted, axis)
    elif axis not in (-1, samples.ndim - 1):  # avoids a needless copy
        move = np.moveaxis if isinstance(samples, np.ndarray) else jnp.moveaxis
        samples = move(samples, axis, -1)
    if samples.ndim == 0 or samples.shape[-1] < least:
        accepted = f"of at least {least} draws along the axis"
        raise value_error(function, argument, accepted, samples)
    return samples


def check_samples(
    function: str,
    samples: npt.ArrayLike,
    axis: int | None = -1,
    least: int = 2,
    argument: str = "samples",
) -> jax.Array:
    """The samples of `check_draws` as a JAX array, at least float32."""
    return as_samples(check_draws(function, samples, axis, least, argument))


def check_fewer_than(
    function: str, argument: str, value: object, least: int, num_draws: int
) -> int:
    """Checks a number of draws, one less than there are at most.

    Raises:
      TypeError: if it is not an integer.
      ValueError: if it is out of bounds.
    """
    most_is = "the number of draws less one"
    return check_count(function, argument, value, least, num_draws - 1, most_is=most_is)


def check_traced_integer(
    function: str,
    argument: str,
    value: int | jax.Array,
    num_draws: int,
    batch: tuple[int, ...],
) -> jax.Array:
    """A number of draws, or an array of such numbers, not checked by value.

    Returns:
      An int32 array that broadcasts against the batch.

    Raises:
      TypeError: if it is not an integer or an array of integers.
      ValueError: if a Python integer is out of bounds, or the shape is neither () nor
        that of the batch.
    """
    dtype = getattr(value, "dtype", None)
    if dtype is None or is_integer(value):
        value = check_fewer_than(function, argument, value, 1, num_draws)
        return jnp.asarray(value, jnp.int32)
    accepted = (
        f"an integer from 1 to the number of draws less one, {num_draws - 1}, or an "
        f"array of them of shape () or {batch}"
    )
    if not jnp.issubdtype(dtype, jnp.integer):
        raise type_error(function, argument, accepted, value)
    if value.shape not in ((), batch):
        raise value_error(function, argument, accepted, value)
    return jnp.asarray(value, jnp.int32)


def check_inflation(
    function: str, inflation: float | jax.Array, samples: jax.Array
) -> jax.Array:
    """A number of at least 1, or an array of the shape of the batch.

    Raises:
      TypeError: if it is not real.
      ValueError: if a number is below 1 or infinite, or an array has another shape.
    """
    batch = samples.shape[:-1]
    if not getattr(inflation, "ndim", 0):
        check_scalar(
            function,
            "variance_inflation",
            inflation,
            "a finite number of at least 1",
            lambda value: 1.0 <= value < np.inf,
        )
        library = jnp if isinstance(inflation, jax.Array) else np
        number = library.asarray(inflation, samples.dtype)
        return jnp.asarray(library.broadcast_to(number, batch))
    accepted = f"a number of at least 1, or a floating array of shape {batch}"
    dtype = getattr(inflation, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise type_error(function, "variance_inflation", accepted, inflation)
    if inflation.shape != batch:
        raise value_error(function, "variance_inflation", accepted, inflation)
    return jnp.asarray(inflation, samples.dtype)


def check_confidence(function: str, confidence: Scalar) -> None:
    """Checks a probability between 0 and 1, both excluded.

    Raises:
      TypeError: if it is not a real number.
      ValueError: if it is out of bounds, or not a scalar.
    """
    check_scalar(
        function,
        "confidence",
        confidence,
        "a number between 0 and 1, both excluded",
        lambda value: 0.0 < value < 1.0,
    )
