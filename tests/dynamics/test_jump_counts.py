import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto
from heavytail_optax.dynamics import Landscape, jumps_to_leave

DOUBLE = hto.dynamics.wells_landscape([-0.3, 0.8], [0.0], [20.0, 2.0])


@pytest.mark.parametrize("max_norm", [0.25, 0.5, 0.61, 0.63])
def test_on_the_line(max_norm):
    counts = jumps_to_leave(hto.dynamics.four_minima(), key=0, max_norm=max_norm)
    table = {0.25: [1, 3, 1, 3], 0.5: [1, 2, 1, 2], 0.61: [1, 1, 1, 2], 0.63: [1] * 4}
    np.testing.assert_array_equal(counts, table[max_norm])


@pytest.mark.parametrize("direction", ["isotropic", "elementwise"])
def test_products_are_left_along_their_easiest_coordinate(direction):
    """Flow moves each coordinate as if alone, so no detour is shorter."""
    landscape = hto.dynamics.product_landscape(
        [DOUBLE, hto.dynamics.wells_landscape([-0.9, 0.9], [0.0])]
    )
    counts = jumps_to_leave(
        landscape, key=0, max_norm=0.35, direction=direction, num_samples=1024
    )
    one, two = np.ceil(np.asarray([0.3, 0.8]) / 0.35), np.ceil([0.9 / 0.35] * 2)
    np.testing.assert_array_equal(counts, np.minimum.outer(one, two).reshape(-1))


def diagonal(x):
    return (x[0] + x[1]) / 2**0.5


def across(x):
    return (x[0] - x[1]) / 2**0.5


# The double well along the diagonal of the plane.
ROTATED = Landscape(
    name="double well along the diagonal",
    value=lambda x: DOUBLE.value(diagonal(x)) + across(x) ** 2,
    gradient=lambda x: (
        DOUBLE.gradient(diagonal(x)) * jnp.ones(2, x.dtype) / 2**0.5
        + 2.0 * across(x) * jnp.asarray([1.0, -1.0], x.dtype) / 2**0.5
    ),
    minima=tuple((minimum / 2**0.5,) * 2 for minimum in DOUBLE.minima),
    classify=lambda x: DOUBLE.field_of(diagonal(x)),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("isotropic", np.ceil(np.asarray([0.3, 0.8]) / 0.35)),
        # A jump along an axis gains 1/sqrt(2) of its length.
        ("elementwise", np.ceil(2**0.5 * np.asarray([0.3, 0.8]) / 0.35)),
    ],
)
def test_the_direction_of_jumps_counts(direction, expected):
    np.testing.assert_allclose(ROTATED.widths, [0.3, 0.8], rtol=1e-3)
    counts = jumps_to_leave(
        ROTATED, key=0, max_norm=0.35, direction=direction, num_samples=1024
    )
    np.testing.assert_array_equal(counts, expected)


def test_no_way_within_the_limit_is_told():
    counts = jumps_to_leave(
        ROTATED,
        key=0,
        max_norm=0.35,
        direction="elementwise",
        num_samples=256,
        max_jumps=1,
    )
    np.testing.assert_array_equal(counts, [0, 0])


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("landscape", None, TypeError),
        ("key", 0.5, TypeError),
        ("max_norm", -1.0, ValueError),
        ("max_norm", "x", TypeError),
        ("direction", "x", ValueError),
        ("direction", None, TypeError),
        ("num_samples", 0, ValueError),
        ("max_jumps", 1.5, TypeError),
    ],
)
def test_bad_arguments_are_refused(argument, value, error):
    good = {"landscape": DOUBLE, "key": 0, "max_norm": 0.5}
    with pytest.raises(error, match=f"`{argument}` argument of `jumps_to_leave` must"):
        jumps_to_leave(**(good | {argument: value}))
