"""The implementations of keys that JAX has, as parameters of tests."""

import jax
import pytest

COUNTER_BASED = ("threefry2x32", "threefry4x32", "philox2x32", "philox4x32")
OTHERS = ("rbg", "unsafe_rbg")


def _case(implementation):
    try:
        jax.random.key(0, impl=implementation)
    except ValueError:
        reason = f"JAX {jax.__version__} has no {implementation} keys"
        return pytest.param(implementation, marks=pytest.mark.skip(reason=reason))
    return pytest.param(implementation)


EVERY = tuple(map(_case, COUNTER_BASED + OTHERS))
AVAILABLE = tuple(case.values[0] for case in EVERY if not case.marks)
each_implementation = pytest.mark.parametrize("implementation", EVERY)
each_counter_based = pytest.mark.parametrize(
    "implementation", tuple(map(_case, COUNTER_BASED))
)
each_other = pytest.mark.parametrize("implementation", tuple(map(_case, OTHERS)))
