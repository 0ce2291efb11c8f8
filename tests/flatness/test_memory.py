import jax
import jax.numpy as jnp

from heavytail_optax.flatness._memory import MEMORY_BUDGET, evaluations_at_once


def outer_product(params, data):
    return jnp.sum(data[:, None] * params[None, :])


def test_the_largest_operation_decides():
    def shapes(n, m):
        return [jax.ShapeDtypeStruct((k,), jnp.float32) for k in (n, m)]

    # A product of 2^24 floats, read once more than it is written.
    large = evaluations_at_once(outer_product, *shapes(2**10, 2**14))
    assert MEMORY_BUDGET // 2**28 <= large <= MEMORY_BUDGET // 2**26
    inside = evaluations_at_once(jax.jit(outer_product), *shapes(2**10, 2**14))
    assert inside == large
    assert evaluations_at_once(outer_product, *shapes(2**16, 2**16)) == 1
    assert evaluations_at_once(outer_product, *shapes(2, 2)) > 10**6


def test_loops_count_once():
    def loop(params):
        return jax.lax.scan(lambda sum, x: (sum + x**2, None), 0.0, params)[0]

    n = 2**20
    fits = evaluations_at_once(loop, jax.ShapeDtypeStruct((n,), jnp.float32))
    assert fits >= MEMORY_BUDGET // (16 * n)
