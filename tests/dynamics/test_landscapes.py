import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import heavytail_optax as hto
from heavytail_optax.dynamics._widths import field_widths

DYNAMICS = hto.dynamics
INF = float("inf")


def paper_function(x):
    """f as the paper has it, in NumPy."""
    return (
        (x + 1.6) * (x + 1.3) ** 2 * (x - 0.2) ** 2 * (x - 0.7) ** 2 * (x - 1.6)
        * (0.05 * np.abs(1.65 - x)) ** 0.6
        * (1.0 + 1.0 / (0.01 + 4.0 * (x - 0.5) ** 2))
        * (1.0 + 1.0 / (0.1 + 4.0 * (x + 1.5) ** 2))
        * (1.0 - 0.25 * np.exp(-5.0 * (x + 0.8) ** 2))
    )  # fmt: skip


THREE = DYNAMICS.wells_landscape([-1.0, 0.5, 2.0], [-0.2, 1.0], [3.0, 10.0, 2.0])
LINE = (
    DYNAMICS.four_minima(),
    DYNAMICS.quadratic(2.0, 0.9, INF),
    THREE,
    DYNAMICS.wells_landscape([0.0], [], 4.0),
)


def test_the_paper_landscape():
    landscape = DYNAMICS.four_minima()
    x = np.linspace(-1.6, 1.6, 4001)
    np.testing.assert_allclose(
        landscape.values_at(x), paper_function(x), rtol=1e-12, atol=1e-14
    )
    # Minima, depths, curvatures and widths to the digits of the theory's table.
    np.testing.assert_allclose(
        landscape.minima, [-1.5114836, -0.6992731, 0.4962445, 1.3220937], atol=5.1e-8
    )
    minima = np.asarray(landscape.minima)
    np.testing.assert_allclose(
        landscape.values_at(minima), [-0.66464, -0.40282, -0.52403, -0.32594], atol=5e-6
    )
    np.testing.assert_allclose(
        [landscape.curvature(field) for field in range(4)],
        [163.4, 2.178, 446.3, 7.733],
        rtol=3e-4,
    )
    np.testing.assert_allclose(
        landscape.widths, [0.2115, 0.6007, 0.2038, 0.6221], atol=5.1e-5
    )
    np.testing.assert_allclose(
        landscape.curvatures_at(np.asarray(landscape.maxima)),
        [-24.07, -2.357, -4.814],
        rtol=3e-4,
    )


@pytest.mark.parametrize("landscape", LINE, ids=lambda landscape: landscape.name)
def test_gradients_and_critical_points_on_the_line(landscape):
    low, high = landscape.projection or (-3.0, 4.0)
    x = np.linspace(low, high, 1500)
    with jax.enable_x64(True):
        automatic = jax.vmap(jax.grad(landscape.value))(jnp.asarray(x))
    np.testing.assert_allclose(
        landscape.gradients_at(x), automatic, rtol=1e-9, atol=1e-11
    )
    h = 1e-6
    x = x[1:-1]
    differences = (landscape.values_at(x + h) - landscape.values_at(x - h)) / (2 * h)
    np.testing.assert_allclose(
        differences, landscape.gradients_at(x), rtol=1e-6, atol=1e-7
    )
    minima = np.asarray(landscape.minima)
    curvatures = landscape.curvatures_at(minima)
    assert (curvatures > 0.0).all()
    errors = np.abs(landscape.gradients_at(minima)) / curvatures
    assert errors.max() < 1e-13
    # f' changes sign at the critical points and nowhere else.
    critical = np.sort(np.concatenate([minima, landscape.maxima]))
    apart = np.abs(x[:, None] - critical).min(axis=-1) > 1e-6
    rises = np.searchsorted(critical, x) % 2 == 1
    np.testing.assert_array_equal((landscape.gradients_at(x) > 0)[apart], rises[apart])


def test_wells_have_what_was_asked_for():
    assert THREE.minima == (-1.0, 0.5, 2.0)
    assert THREE.ends == (-INF, -0.2, 1.0, INF)
    np.testing.assert_allclose(
        THREE.curvatures_at(np.asarray(THREE.minima)), [3.0, 10.0, 2.0]
    )
    np.testing.assert_allclose(THREE.widths, [0.8, 0.5, 1.0])
    flat_top = DYNAMICS.wells_landscape([0, 1], [0.5], 2.0, maxima_curvatures=[0.1])
    np.testing.assert_allclose(flat_top.curvatures_at(np.asarray([0.5])), [-0.1])
    # f is the integral of f'.
    x = np.asarray([-1.7, -0.4, 0.3, 1.2, 2.6])
    integrals = [
        scipy.integrate.quad(lambda y: THREE.gradients_at([y])[0], -1.0, end)[0]
        for end in x
    ]
    np.testing.assert_allclose(THREE.values_at(x), integrals, rtol=1e-6, atol=1e-9)


def test_fields_are_traceable_and_take_any_shape():
    landscape = DYNAMICS.four_minima()
    x = jnp.asarray([[-1.6, -1.2], [0.3, 0.9]])
    expected = [[0, 1], [2, 3]]
    np.testing.assert_array_equal(landscape.field_of(x), expected)
    np.testing.assert_array_equal(jax.jit(landscape.field_of)(x), expected)
    np.testing.assert_array_equal(jax.vmap(landscape.field_of)(x), expected)
    well = DYNAMICS.quadratic(1.0, 0.9, 0.7)
    np.testing.assert_array_equal(
        well.field_of(np.asarray([-1.0, -0.9, 0.0, 0.7, 2.0])), [-1, 0, 0, 1, 1]
    )


@pytest.mark.parametrize("landscape", LINE, ids=lambda landscape: landscape.name)
def test_the_dtype_of_the_point_is_kept(landscape):
    for dtype in (jnp.float32, jnp.bfloat16):
        x = jnp.asarray(0.3, dtype)
        assert landscape.value(x).dtype == dtype
        assert landscape.gradient(x).dtype == dtype


def test_a_landscape_is_a_static_argument():
    compiled = jax.jit(lambda landscape, x: landscape.gradient(x), static_argnums=0)
    assert compiled(DYNAMICS.quadratic(2.0, 1, 1), 0.5) == 1.0
    assert compiled(DYNAMICS.quadratic(2.0, 1, 1), 0.5) == 1.0
    assert compiled._cache_size() == 1


def test_line_finds_critical_points_given_roughly():
    landscape = DYNAMICS.landscape_on_line(
        DYNAMICS.four_minima().value,
        minima=[-1.5, -0.7, 0.5, 1.3],
        maxima=[-1.31, 0.21, 0.69],
        projection=(-1.6, 1.6),
    )
    reference = DYNAMICS.four_minima()
    np.testing.assert_allclose(landscape.minima, reference.minima, rtol=1e-12)
    np.testing.assert_allclose(landscape.maxima, reference.maxima, rtol=1e-12)


def double_well(x):
    return (x**2 - 1.0) ** 2


@pytest.mark.parametrize(
    ("minima", "maxima", "argument"),
    [
        ([0.0], [], "minima"),  # it is the maximum
        ([-1.0, 1.0], [0.9], "maxima"),
        ([-1.0], [], "minima"),  # there is another one
    ],
)
def test_line_refuses_what_is_no_minimum_or_maximum(minima, maxima, argument):
    with pytest.raises(
        ValueError, match=f"`{argument}` argument of `landscape_on_line`"
    ):
        DYNAMICS.landscape_on_line(
            double_well, minima=minima, maxima=maxima, projection=(-2.0, 2.0)
        )


def test_product_landscapes():
    double = DYNAMICS.wells_landscape([-0.3, 0.8], [0.0], [20.0, 2.0])
    landscape = DYNAMICS.product_landscape([double, DYNAMICS.four_minima()])
    assert (landscape.dimension, landscape.num_fields) == (2, 8)
    np.testing.assert_array_equal(landscape.field_of(landscape.minima), np.arange(8))
    np.testing.assert_allclose(
        landscape.curvature(5), np.diag([2.0, 2.177961462]), atol=1e-8
    )
    assert np.abs(landscape.gradients_at(landscape.minima)).max() < 1e-11
    np.testing.assert_array_equal(landscape.projection, [[-INF, -1.6], [INF, 1.6]])
    np.testing.assert_allclose(
        landscape.widths,
        np.minimum.outer([0.3, 0.8], DYNAMICS.four_minima().widths).reshape(-1),
    )
    well = DYNAMICS.product_landscape([double, DYNAMICS.quadratic(1.0, 1.0, 1.0)])
    np.testing.assert_array_equal(
        well.field_of(np.asarray([[0.1, 0.0], [0.1, 1.1]])), [1, -1]
    )


def test_a_mixture_has_its_minima():
    landscape = DYNAMICS.random_mixture(key=1, dimension=2, num_minima=3)
    minima = np.asarray(landscape.minima)
    assert np.abs(landscape.gradients_at(minima)).max() < 1e-12
    hessians = landscape.curvatures_at(minima)
    assert np.linalg.eigvalsh(hessians).min() > 0.5
    np.testing.assert_array_equal(landscape.field_of(minima), np.arange(3))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2)) * 2.0
    with jax.enable_x64(True):
        automatic = jax.vmap(jax.grad(landscape.value))(jnp.asarray(x))
    np.testing.assert_allclose(
        landscape.gradients_at(x), automatic, rtol=1e-9, atol=1e-11
    )
    # Descent by another route, SciPy's stiff integrator, ends in the same field.
    ends = [
        scipy.integrate.solve_ivp(
            lambda _, y: -landscape.gradients_at(y[None])[0], (0.0, 50.0), start
        ).y[:, -1]
        for start in x[:4]
    ]
    nearest = np.linalg.norm(np.asarray(ends)[:, None] - minima, axis=-1).argmin(-1)
    np.testing.assert_array_equal(landscape.field_of(x[:4]), nearest)
    again = DYNAMICS.random_mixture(key=1, dimension=2, num_minima=3)
    assert again.minima == landscape.minima
    other = DYNAMICS.random_mixture(key=2, dimension=2, num_minima=3)
    assert other.minima != landscape.minima


@pytest.mark.slow
def test_widths_along_random_directions():
    double = DYNAMICS.wells_landscape([-0.3, 0.8], [0.0], [20.0, 2.0])
    landscape = DYNAMICS.product_landscape(
        [double, double, DYNAMICS.wells_landscape([0.0], [], 1.0)]
    )
    np.testing.assert_allclose(
        field_widths(landscape.field_of, np.asarray(landscape.minima)),
        landscape.widths,
        rtol=1e-5,
    )
    mixture = DYNAMICS.random_mixture(key=0, dimension=3, num_minima=4)
    minima = np.asarray(mixture.minima)
    apart = np.linalg.norm(minima[:, None] - minima, axis=-1)
    nearest = np.where(apart > 0.0, apart, INF).min(axis=-1)
    assert (mixture.widths < nearest).all()
    assert (mixture.widths > 0.3 * nearest).all()


def test_a_ball_without_room_is_refused():
    with pytest.raises(ValueError, match="`radius` argument of `random_mixture`"):
        DYNAMICS.random_mixture(key=0, dimension=2, num_minima=9, radius=1.0)
