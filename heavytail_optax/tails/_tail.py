"""The Tail protocol: what a distribution must offer to be used as noise."""

import operator
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from heavytail_optax._keys import as_typed_key, check_key
from heavytail_optax._typing import Key, OutSharding
from heavytail_optax._validation import (
    check_called,
    is_function,
    type_error,
    value_error,
)


@runtime_checkable
class Tail(Protocol):
    """A distribution on the line, as the transformations of this package use it.

    The tails of `heavytail_optax.tails` are frozen dataclasses. They are hashable,
    equal by value, and pytrees whose parameters may be traced or vmapped. A tail of
    your own needs the five members below. It must not be callable: a callable in place
    of a tail is a schedule, a function from the step to a tail.

    Attributes:
      tail_index: alpha in `P(|Z| > x) ~ C x^-alpha` as x grows; infinite for a light
        tail.
      right_tail_weight: p, the limit of `P(Z > x) / P(|Z| > x)`, in [0, 1].
      is_centred: true if the mean is zero or, where there is no mean, if Z and -Z
        have the same law. Only centred tails may be added to gradients.

    Example:
      >>> import dataclasses, jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> @dataclasses.dataclass(frozen=True)
      ... class Laplace:
      ...     tail_index = float("inf")
      ...     right_tail_weight = 0.5
      ...     is_centred = True
      ...
      ...     def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
      ...         return jax.random.laplace(key, shape, dtype, out_sharding=out_sharding)
      ...
      ...     def tail_probability(self, x):
      ...         return jnp.exp(-jnp.maximum(x, 0.0))
      >>> isinstance(Laplace(), hto.tails.Tail)
      True
      >>> noise = hto.add_heavy_tailed_noise(Laplace(), 0.1, key=0)
    """

    # Read-only, so that both a field of a frozen dataclass and a property satisfy them.
    @property
    def tail_index(self) -> ArrayLike: ...

    @property
    def right_tail_weight(self) -> ArrayLike: ...

    @property
    def is_centred(self) -> bool: ...

    def sample(
        self,
        key: ArrayLike,
        shape: tuple[int, ...] = (),
        dtype: DTypeLike = jnp.float32,
        *,
        out_sharding: OutSharding = None,
    ) -> jax.Array:
        """Independent draws: an array of `shape` and `dtype`, every element finite."""
        ...

    def tail_probability(self, x: ArrayLike) -> jax.Array:
        """`P(|Z| > x)`, elementwise; both sides of the law together."""
        ...


TailOrSchedule: TypeAlias = Tail | Callable[[jax.Array], Tail]
"""A tail, or a schedule (step -> tail)."""

_MEMBERS = (
    "sample",
    "tail_index",
    "right_tail_weight",
    "is_centred",
    "tail_probability",
)

ACCEPTED_TAIL = (
    "a tail, as those of `heavytail_optax.tails`, or a function from the step to a tail"
)


def check_tail(function: str, tail: object, *, must_be_centred: bool) -> None:
    """Checks that `tail` follows the protocol and suits its use.

    Raises:
      TypeError: if a member of the protocol is missing, or if the tail is callable.
      ValueError: if the tail must be centred and is not.
    """
    check_called(function, "tail", tail, ACCEPTED_TAIL)
    missing = [name for name in _MEMBERS if not hasattr(tail, name)]
    if missing:
        raise type_error(function, "tail", ACCEPTED_TAIL, tail)
    if callable(tail):
        raise type_error(
            function, "tail", "a tail that is not callable (callables are schedules)",
            tail,
        )  # fmt: skip
    if must_be_centred and not tail.is_centred:
        raise value_error(
            function,
            "tail",
            "centred, since noise that is added must have mean zero: for a one-signed "
            "law use `tails.symmetric_pareto`, or `inflate_gradient_noise`",
            tail,
        )


def is_of_this_package(tail: Tail) -> bool:
    """Whether it is one of `heavytail_optax.tails`, each of whose draws has an index.

    Their draws depend on the number of elements, not on the shape.
    """
    return type(tail).__module__.startswith("heavytail_optax.tails.")


def check_tail_or_schedule(
    function: str, tail: TailOrSchedule, *, must_be_centred: bool
) -> None:
    """Checks a tail; a schedule is checked when it is first called."""
    check_called(function, "tail", tail, ACCEPTED_TAIL)
    if not is_function(tail) or hasattr(tail, "sample"):
        check_tail(function, tail, must_be_centred=must_be_centred)


def tail_at(
    function: str, tail: TailOrSchedule, count: jax.Array, *, must_be_centred: bool
):
    """The tail at step `count`, from a constant tail or a schedule."""
    if is_function(tail):
        tail = tail(count)
        check_tail(function, tail, must_be_centred=must_be_centred)
    return tail


def probability_beyond(
    x: jax.Array, of_positive: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """`P(|Z| > x)` for any x, from a function for positive x; 1 for x <= 0."""
    probability = jnp.minimum(of_positive(jnp.where(x > 0.0, x, 1.0)), 1.0)
    return jnp.where(x > 0.0, probability, jnp.where(jnp.isnan(x), jnp.nan, 1.0))


def sampling_arguments(function: str, key: Key, shape: Sequence[int], dtype: DTypeLike):
    """Checks and completes the arguments of `sample`.

    Returns:
      A typed key, the shape as a tuple, and the dtype that JAX gives for `dtype`.
    """
    check_key(function, key)
    try:
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    except TypeError:
        raise type_error(function, "dtype", "a floating dtype", dtype) from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise type_error(function, "dtype", "a floating dtype", dtype)
    try:
        shape = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise type_error(function, "shape", "a tuple of integers", shape) from None
    return as_typed_key(key), shape, dtype
