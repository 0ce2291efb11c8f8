"""The implementations of keys that JAX has, as parameters of tests."""

import pytest

COUNTER_BASED = ("threefry2x32", "threefry4x32", "philox2x32", "philox4x32")
OTHERS = ("rbg", "unsafe_rbg")
EVERY = COUNTER_BASED + OTHERS

each_implementation = pytest.mark.parametrize("implementation", EVERY)
each_counter_based = pytest.mark.parametrize("implementation", COUNTER_BASED)
each_other = pytest.mark.parametrize("implementation", OTHERS)
