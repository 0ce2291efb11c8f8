"""The wording of all argument errors, and the checks that raise them.

Only Python and NumPy numbers are checked by value. A JAX array may be a tracer or may
be on another host, so only its shape and dtype are known before the update runs. If its
value turns out to be bad, the update is NaN.
"""

import numbers
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def _describe(value: object) -> str:
    """A short description of the value that came, for the end of an error message."""
    is_array = hasattr(value, "shape") and hasattr(value, "dtype")
    if is_array and (value.shape != () or isinstance(value, jax.core.Tracer)):
        return f"an array of shape {tuple(value.shape)} and dtype {value.dtype}"
    if callable(value) or isinstance(value, type):
        name = getattr(value, "__name__", type(value).__name__)
        is_tree = not (isinstance(value, type) or is_function(value))
        return f"{name}, a pytree" if is_tree else name
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _message(function: str, argument: str, accepted: str, value: object) -> str:
    return (
        f"The `{argument}` argument of `{function}` must be {accepted}. "
        f"Got {_describe(value)} instead."
    )


def value_error(
    function: str, argument: str, accepted: str, value: object
) -> ValueError:
    """A ValueError that names the argument, what is accepted and what came."""
    return ValueError(_message(function, argument, accepted, value))


def type_error(function: str, argument: str, accepted: str, value: object) -> TypeError:
    """A TypeError that names the argument, what is accepted and what came."""
    return TypeError(_message(function, argument, accepted, value))


def is_integer(value: object) -> bool:
    """Whether the value is a Python or NumPy integer. A bool is not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_function(value: object) -> bool:
    """Whether the value is a function. A pytree is not, even if it can be called.

    A model can be called, and so can one of its parameters in Flax NNX. If it consists
    of numbers, it is a tree of settings. An object that JAX does not flatten holds no
    settings, and a `jax.tree_util.Partial` is made to be called.
    """
    if not callable(value):
        return False
    is_partial = isinstance(value, jax.tree_util.Partial)
    return is_partial or jax.tree_util.all_leaves([value])


def check_called(function: str, argument: str, value: object, accepted: str) -> None:
    """Checks that the value is not a function of ours whose parentheses were forgotten.

    `adaptive_max_norm` and `tails.pareto` can be called with a step, as a schedule can,
    and so can a class. What they return is of no use there.

    Raises:
      TypeError: if it is a function of this package, or a class.
    """
    if isinstance(value, type):
        raise type_error(function, argument, accepted, value)
    name = getattr(value, "__qualname__", "")
    # Not what a function of ours returns: that has "<locals>" or "<lambda>" in its name.
    is_ours = str(getattr(value, "__module__", "")).startswith("heavytail_optax.")
    if callable(value) and is_ours and name.isidentifier():
        accepted += f", not `{name}` itself (did you mean what `{name}(...)` returns?)"
        raise type_error(function, argument, accepted, value)


def check_state(function: str, state: object, accepted: type) -> None:
    """Checks that a transformation got a state of its own type.

    Args:
      function: name of the transformation, for the message.
      state: what the user passed.
      accepted: the NamedTuple that `init` returns.

    Raises:
      TypeError: if it is anything else.
    """
    if not isinstance(state, accepted):
        raise foreign_state(function, f"of type `{accepted.__name__}`", state)


def foreign_state(function: str, accepted: str, state: object) -> TypeError:
    """The error for a state that `init` did not return; it names only its type."""
    is_container = isinstance(state, (tuple, list, dict))
    return type_error(
        f"{function}.update",
        "state",
        f"the state that `init` returned, or the last `update`, {accepted}",
        type(state) if is_container else state,
    )


def check_scalar(
    function: str,
    argument: str,
    value: object,
    accepted: str,
    is_valid: Callable[[float], bool],
) -> None:
    """Checks one real number, or an array or tracer that holds one.

    Args:
      function: name of the public function, for the message.
      argument: name of its argument, for the message.
      value: what the user passed.
      accepted: what is accepted, for the message; it follows "must be".
      is_valid: predicate on the value as a float. It must be false for NaN, unless NaN
        is accepted.

    Raises:
      TypeError: if the value is not a real number.
      ValueError: if it is an array with more than one element, or not valid.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.bool_)):
        raise type_error(function, argument, accepted, value)
    if isinstance(value, numbers.Real):
        if not is_valid(float(value)):
            raise value_error(function, argument, accepted, value)
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        if not (
            jnp.issubdtype(value.dtype, jnp.floating)
            or jnp.issubdtype(value.dtype, jnp.integer)
        ):
            raise type_error(function, argument, accepted, value)
        if value.shape != ():
            raise value_error(function, argument, accepted, value)
    else:
        raise type_error(function, argument, accepted, value)


def check_count(
    function: str,
    argument: str,
    value: object,
    least: int = 1,
    most: int | None = None,
    *,
    least_is: str = "",
    most_is: str = "",
) -> int:
    """Checks a Python integer between two bounds, both included.

    Args:
      function: name of the public function, for the message.
      argument: name of its argument, for the message.
      value: what the user passed.
      least: the lower bound.
      most: the upper bound; None for none.
      least_is: where the lower bound comes from, such as "`warmup_steps`", if it is not
        a rule of the function.
      most_is: the same of the upper bound.

    Raises:
      TypeError: if it is not an integer.
      ValueError: if it is out of bounds.
    """
    accepted = f"an integer of at least {f'{least_is}, ' * bool(least_is)}{least}"
    if most is not None:
        accepted += f" and at most {f'{most_is}, ' * bool(most_is)}{most}"
    if not is_integer(value):
        raise type_error(function, argument, accepted, value)
    if value < least or (most is not None and value > most):
        raise value_error(function, argument, accepted, value)
    return int(value)


def check_positive(function: str, argument: str, value: object) -> None:
    """Checks a positive, finite number; of an array, only its shape and dtype.

    Raises:
      TypeError: if it is not a real number.
      ValueError: if it is not positive and finite, or not a scalar.
    """
    check_scalar(
        function,
        argument,
        value,
        "a positive, finite number",
        lambda number: 0.0 < number < float("inf"),
    )


def check_not_negative(function: str, argument: str, value: object) -> None:
    """Checks a finite number of at least zero; of an array, only its shape and dtype.

    Raises:
      TypeError: if it is not a real number.
      ValueError: if it is negative or not finite, or not a scalar.
    """
    check_scalar(
        function,
        argument,
        value,
        "a finite number of at least 0",
        lambda number: 0.0 <= number < float("inf"),
    )


def check_share(function: str, argument: str, value: object) -> None:
    """Checks a number between 0 and 1; of an array, only its shape and dtype.

    Raises:
      TypeError: if it is not a real number.
      ValueError: if it is not between 0 and 1, or not a scalar.
    """
    check_scalar(
        function,
        argument,
        value,
        "a number between 0 and 1, both excluded",
        lambda number: 0.0 < number < 1.0,
    )


def check_bool(function: str, argument: str, value: object) -> bool:
    """Checks that the value is True or False; a truthy value is not enough.

    Raises:
      TypeError: if it is not a bool.
    """
    if not isinstance(value, bool):
        raise type_error(function, argument, "True or False", value)
    return value


def check_choice(
    function: str, argument: str, value: object, choices: tuple[str, ...]
) -> None:
    """Checks that `value` is one of the strings in `choices`."""
    accepted = " or ".join(repr(choice) for choice in choices)
    if not isinstance(value, str):
        raise type_error(function, argument, accepted, value)
    if value not in choices:
        raise value_error(function, argument, accepted, value)


def in_float32(value: float) -> float:
    """The value rounded to float32, as the updates use it: maybe infinite or zero."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(value))
