"""Threefry and Philox: random words as a pure function of a key and a counter.

These are the generators behind JAX's keys of the same names, with both or all four of
their words. `jax.random.bits` returns only the exclusive or of these. On CPU it also
runs the rounds of Threefry-2x32 as a loop; unrolled they are several times as fast
there, and fuse into the loop that uses the words.

References:
  Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Words = tuple[jax.Array, ...]
"""uint32 arrays of one shape."""

_PARITY = 0x1BD11BDA
_ROTATIONS_2 = (13, 15, 26, 6, 17, 29, 16, 24)
_ROTATIONS_4 = (
    *((10, 26), (11, 21), (13, 27), (23, 5)),
    *((6, 20), (17, 11), (25, 10), (18, 20)),
)
_THREEFRY_ROUNDS = 20

_PHILOX_ROUNDS = 10
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MULTIPLIER_2 = 0xD256D193
_MULTIPLIERS_4 = (0xD2511F53, 0xCD9E8D57)


def _rotate_left(x: jax.Array, distance: int) -> jax.Array:
    return (x << jnp.uint32(distance)) | (x >> jnp.uint32(32 - distance))


def _mix(x: jax.Array, y: jax.Array, distance: int) -> tuple[jax.Array, jax.Array]:
    total = x + y
    return total, _rotate_left(y, distance) ^ total


# Each is jitted, so that leaves of one shape share the trace of its many operations.
@jax.jit
def threefry_2x32(key: Words, counter: Words) -> Words:
    """Threefry-2x32 of 20 rounds.

    Args:
      key: two uint32 words.
      counter: two uint32 arrays of equal shape.

    Returns:
      Two uint32 arrays of that shape.
    """
    words = (*key, key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x, y = counter[0] + words[0], counter[1] + words[1]
    for step in range(_THREEFRY_ROUNDS):
        x, y = _mix(x, y, _ROTATIONS_2[step % 8])
        if step % 4 == 3:
            group = step // 4 + 1
            x = x + words[group % 3]
            y = y + words[(group + 1) % 3] + jnp.uint32(group)
    return x, y


@jax.jit
def threefry_4x32(key: Words, counter: Words) -> Words:
    """Threefry-4x32 of 20 rounds.

    Args:
      key: four uint32 words.
      counter: four uint32 arrays of equal shape.

    Returns:
      Four uint32 arrays of that shape.
    """
    words = (*key, key[0] ^ key[1] ^ key[2] ^ key[3] ^ jnp.uint32(_PARITY))
    x, y, z, w = (count + word for count, word in zip(counter, words[:4], strict=True))
    for step in range(_THREEFRY_ROUNDS):
        first, second = _ROTATIONS_4[step % 8]
        if step % 2 == 0:
            (x, y), (z, w) = _mix(x, y, first), _mix(z, w, second)
        else:
            (x, w), (z, y) = _mix(x, w, first), _mix(z, y, second)
        if step % 4 == 3:
            group = step // 4 + 1
            x, y, z, w = (
                value + words[(group + place) % 5]
                for place, value in enumerate((x, y, z, w))
            )
            w = w + jnp.uint32(group)
    return x, y, z, w


def _product(multiplier: int, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The high and the low word of a product of two words.

    JAX 0.10 to 0.12 compile `jax.lax.mulhi` for one device only. By halves of 16 bits,
    compiling ten rounds takes minutes with JAX 0.12. So 64-bit integers, only here.
    """
    with jax.enable_x64(True):
        wide = jax.lax.convert_element_type(x, jnp.uint64) * jnp.uint64(multiplier)
        high = jax.lax.convert_element_type(wide >> jnp.uint64(32), jnp.uint32)
        return high, jax.lax.convert_element_type(wide, jnp.uint32)


@jax.jit
def philox_2x32(key: Words, counter: Words) -> Words:
    """Philox-2x32 of 10 rounds.

    Args:
      key: one uint32 word.
      counter: two uint32 arrays of equal shape.

    Returns:
      Two uint32 arrays of that shape.
    """
    (word,), (x, y) = key, counter
    for _ in range(_PHILOX_ROUNDS):
        high, low = _product(_MULTIPLIER_2, x)
        x, y = high ^ y ^ word, low
        word = word + jnp.uint32(_WEYL[0])
    return x, y


@jax.jit
def philox_4x32(key: Words, counter: Words) -> Words:
    """Philox-4x32 of 10 rounds.

    Args:
      key: two uint32 words.
      counter: four uint32 arrays of equal shape.

    Returns:
      Four uint32 arrays of that shape.
    """
    (first, second), (x, y, z, w) = key, counter
    for _ in range(_PHILOX_ROUNDS):
        x_high, x_low = _product(_MULTIPLIERS_4[0], x)
        z_high, z_low = _product(_MULTIPLIERS_4[1], z)
        x, y, z, w = z_high ^ y ^ first, z_low, x_high ^ w ^ second, x_low
        first, second = first + jnp.uint32(_WEYL[0]), second + jnp.uint32(_WEYL[1])
    return x, y, z, w


TWO_WORDS: dict[str, Callable[[Words, Words], Words]] = {
    "threefry2x32": threefry_2x32,
    "philox2x32": philox_2x32,
}
"""Generators with counters of two words, by the name of the key implementation."""

FOUR_WORDS: dict[str, Callable[[Words, Words], Words]] = {
    "threefry4x32": threefry_4x32,
    "philox4x32": philox_4x32,
}
"""Generators with counters of four words, by the name of the key implementation."""
