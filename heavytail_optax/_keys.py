"""Random keys: what users pass, what optimiser state holds, and one key per draw.

Optimiser state holds plain uint32 key data. A typed key there would break
`optax.contrib.sam`, Flax's `to_bytes` and `optax.tree.cast`. The data are a copy: if a
training step donated the state, the user's own array would be deleted with it.
"""

import numbers
import zlib

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from heavytail_optax._counter_based import philox_2x32, philox_4x32
from heavytail_optax._typing import Key
from heavytail_optax._validation import type_error

_ACCEPTED = "an integer seed, a typed key (`jax.random.key`) or a legacy key"


def _is_typed(key: Key) -> bool:
    return hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def _is_legacy(key: Key) -> bool:
    return hasattr(key, "dtype") and key.dtype == jnp.uint32 and key.ndim == 1


def check_key(function: str, key: Key, argument: str = "key") -> None:
    """Raises a TypeError unless `key` is one seed or one key."""
    if isinstance(key, bool):
        raise type_error(function, argument, _ACCEPTED, key)
    if isinstance(key, numbers.Integral):
        return
    if _is_legacy(key):
        # The number of words in a key depends on JAX's default implementation.
        try:
            jax.eval_shape(jax.random.wrap_key_data, key)
        except (TypeError, ValueError):
            raise type_error(function, argument, _ACCEPTED, key) from None
        return
    # `optax.inject_hyperparams` turns a seed into an integer array.
    is_integer_array = hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jnp.integer)
    if not ((_is_typed(key) or is_integer_array) and key.shape == ()):
        raise type_error(function, argument, _ACCEPTED, key)


def as_typed_key(key: Key) -> jax.Array:
    """The typed key that a seed, a legacy key or a typed key stands for."""
    if _is_typed(key):
        return key
    if _is_legacy(key):
        return jax.random.wrap_key_data(jnp.asarray(key))
    return jax.random.key(key)


def key_data_copy(key: Key) -> jax.Array:
    """A copy of the key data: donating it does not delete the user's key."""
    return jnp.array(jax.random.key_data(as_typed_key(key)), copy=True)


def settled(key: jax.Array) -> jax.Array:
    """The key, computed before whatever uses it.

    XLA fuses one generator into the next and into the loop over the elements. On CPU it
    then computes each word of a Threefry-4x32 key anew wherever it is used: the time is
    exponential in the number of keys derived from each other, and an update of two
    leaves does not end. JAX's Threefry-2x32 is a loop there, which is never fused.
    """
    if str(jax.random.key_impl(key)) == "threefry2x32":
        return key
    return jax.lax.optimization_barrier(key)


def fold_in(key: jax.Array, data: ArrayLike) -> jax.Array:
    """`jax.random.fold_in`, computed before whatever uses it.

    JAX's own for Philox keys compiles for one device only.
    """
    implementation = str(jax.random.key_impl(key))
    if implementation not in ("philox2x32", "philox4x32"):
        return settled(jax.random.fold_in(key, data))
    words, zero = key_words(key), jnp.uint32(0)
    last = jnp.uint32(data)
    if implementation == "philox2x32":
        derived = philox_2x32(words, (zero, last))[:1]
    else:
        derived = philox_4x32(words, (zero, zero, zero, last))[:2]
    return settled(jax.random.wrap_key_data(jnp.stack(derived), impl=implementation))


def key_words(key: jax.Array) -> tuple[jax.Array, ...]:
    """The uint32 words that a key is made of."""
    data = jax.random.key_data(key)
    return tuple(data[place] for place in range(data.shape[0]))


def tagged_key(key: Key, purpose: str) -> jax.Array:
    """A key for one purpose, independent of keys that the user derives from it.

    `fold_in(key, i)` with a small i would not do: it is the i-th key of
    `jax.random.split`.
    """
    return fold_in(as_typed_key(key), zlib.crc32(purpose.encode()))


def step_key(key: Key, key_data: jax.Array, purpose: str, count: jax.Array):
    """The key of one step: a function of the stored key, the purpose and the step.

    Args:
      key: what the user passed; it determines the implementation of `key_data`.
      key_data: the uint32 data kept in the optimiser state.
      purpose: what the draw is for. Two kinds of transformation with the same key thus
        draw independently.
      count: the step, int32.

    Returns:
      A typed key.
    """
    implementation = jax.random.key_impl(key) if _is_typed(key) else None
    typed = jax.random.wrap_key_data(key_data, impl=implementation)
    return fold_in(tagged_key(typed, purpose), count)
