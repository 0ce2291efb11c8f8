import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax.flatness._search import largest_within


@functools.partial(jax.jit, static_argnums=0)
def search(deviation, target, lower, upper, tolerance):
    numbers = [jnp.asarray(x, jnp.float32) for x in (target, lower, upper, tolerance)]
    return largest_within(lambda size: (deviation(size), size), *numbers)


def square(size):
    return size**2


@pytest.mark.parametrize("tolerance", [1.0, 0.1, 0.01, 1e-4])
@pytest.mark.parametrize("target", [1e-6, 0.3, 40.0])
def test_brackets_the_crossing(target, tolerance):
    lower, upper = 1e-5, 10.0
    found = search(square, target, lower, upper, tolerance)
    assert found.low <= math.sqrt(target) <= found.high
    assert found.high <= found.low * (1 + tolerance) * (1 + 1e-6)
    assert found.at_low == (found.low**2, found.low)
    assert found.at_high == (found.high**2, found.high)
    assert not found.hit_lower and not found.hit_upper
    steps = 2 + math.ceil(math.log2(math.log(upper / lower) / math.log(1 + tolerance)))
    assert found.step in (steps, steps + 1)  # one more for rounding


def test_bounds_that_are_hit_are_told():
    above = search(square, 200.0, 1e-5, 10.0, 0.01)
    assert above.hit_upper and not above.hit_lower
    assert (above.low, above.step) == (10.0, 1)
    below = search(square, 1e-12, 1e-5, 10.0, 0.01)
    assert below.hit_lower and not below.hit_upper
    np.testing.assert_allclose(below.low, 1e-5)
    np.testing.assert_allclose(below.at_low[0], 1e-10, rtol=1e-6)
    assert below.step == 2


@pytest.mark.parametrize("beyond", [math.nan, math.inf])
def test_what_is_not_finite_is_beyond_the_target(beyond):
    def deviation(size):
        return jnp.where(size > 0.5, beyond, size)

    found = search(deviation, 0.7, 1e-5, 10.0, 0.01)
    assert 0.49 < found.low <= 0.5 < found.high


def test_ends_where_floats_have_nothing_in_between():
    found = search(square, 0.3, 1e-5, 10.0, 1e-12)
    np.testing.assert_allclose(found.low, math.sqrt(0.3), rtol=1e-6)
    assert found.step < 40
