"""Sums and running sums whose programs XLA compiles quickly.

On a CPU, XLA turns each plain sum into three loops, and each running sum into seven.
Compiling these takes most of an estimator's first call.
"""

import jax
import jax.numpy as jnp

# Of more terms, plain sums are worth their compilation: they take a third of the time.
_FEW = 2**13
_LANES = 16


def _added(one: tuple[jax.Array, ...], other: tuple[jax.Array, ...]):
    return tuple(x + y for x, y in zip(one, other, strict=True))


@jax.custom_jvp
def _in_one_pass(terms: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Sums of several arrays together, in lanes, which also keeps rounding errors small."""
    first = terms[0]
    batch, axis = first.shape[:-1], first.ndim - 1
    zeros = [jnp.zeros((), x.dtype) for x in terms]
    sums = [x.reshape(*batch, -1, _LANES) for x in terms]
    for _ in range(2):
        sums = jax.lax.reduce(tuple(sums), tuple(zeros), _added, (axis,))
    return tuple(sums)


@_in_one_pass.defjvp
def _derivative(primals, tangents):
    (terms,), (steps,) = primals, tangents
    return _in_one_pass(terms), tuple(jnp.sum(x, axis=-1) for x in steps)


def sums(*terms: jax.Array) -> tuple[jax.Array, ...]:
    """The sum of each array along its last axis.

    Args:
      terms: arrays of one shape, (..., m).
    """
    m = terms[0].shape[-1]
    if m > _FEW or m % _LANES:
        return tuple(jnp.sum(x, axis=-1, dtype=x.dtype) for x in terms)
    # With one array alone, XLA takes the slow way again.
    several = terms if len(terms) > 1 else (*terms, terms[0])
    return _in_one_pass(several)[: len(terms)]


def _shifted(x: jax.Array, by: jax.Array, fill: jax.Array) -> jax.Array:
    """Moved towards the end by a traced number of places."""
    padded = jnp.concatenate([jnp.broadcast_to(fill, x.shape), x], axis=-1)
    return jax.lax.dynamic_slice_in_dim(padded, x.shape[-1] - by, x.shape[-1], -1)


def running(values: jax.Array, places: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The running sum of values and the running maximum of places, both in one loop.

    Args:
      values: floating, shape (..., m).
      places: integers of at least 0, of the same shape but for its first axes.
    """

    def double(step, state):
        by = jnp.left_shift(1, step)
        total, most = state
        zero, none = jnp.zeros((), total.dtype), jnp.zeros((), most.dtype)
        return total + _shifted(total, by, zero), jnp.maximum(
            most, _shifted(most, by, none)
        )

    steps = (values.shape[-1] - 1).bit_length()
    return jax.lax.fori_loop(0, steps, double, (values, places))
