import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadratics import CURVATURE, DATA, point, quadratic

from heavytail_optax.flatness import (
    filter_normalise,
    hessian_eigenvalues,
    linear_barrier,
    loss_line,
    loss_plane,
)


def two_wells(x):
    return (x**2 - 1.0) ** 2


def test_line_along_an_eigenvector_is_the_parabola_of_its_eigenvalue():
    values, vectors, _ = hessian_eigenvalues(quadratic, point(), key=0, args=DATA)
    top = jax.tree.map(lambda v: v[0], vectors)
    t = np.linspace(-1.0, 1.0, 11)
    line = loss_line(quadratic, point(), top, t, args=DATA)
    np.testing.assert_allclose(line.coefficients, t, rtol=1e-6)
    np.testing.assert_allclose(line.losses, CURVATURE.max() * t**2 / 2, atol=1e-3)
    np.testing.assert_allclose(values[0], CURVATURE.max(), rtol=1e-4)


def test_plane():
    ones = jax.tree.map(jnp.ones_like, point())
    only_a = ones | {"b": jnp.zeros(20)}
    s, t = np.linspace(-1.0, 1.0, 4), np.linspace(0.0, 2.0, 3)
    plane = loss_plane(quadratic, point(), (ones, only_a), s, t, args=DATA)
    a, b = CURVATURE[:10].sum(), CURVATURE[10:].sum()
    exact = 0.5 * (a * (s[:, None] + t[None, :]) ** 2 + b * s[:, None] ** 2)
    np.testing.assert_allclose(plane.losses, exact, rtol=1e-5)
    np.testing.assert_allclose(plane.second, t)
    compiled = jax.jit(functools.partial(loss_plane, quadratic))(
        point(), (ones, only_a), s, t, args=DATA
    )
    np.testing.assert_allclose(compiled.losses, exact, rtol=1e-5)


def test_barrier_between_two_wells():
    barrier = linear_barrier(two_wells, -1.0, 1.0)
    np.testing.assert_allclose([barrier.height, barrier.height_above_ends], 1.0)
    np.testing.assert_allclose(
        barrier.losses, two_wells(np.linspace(-1, 1, 21)), atol=1e-6
    )
    # Above the line between ends of unequal loss, and above the higher of them.
    skewed = linear_barrier(two_wells, -1.0, 1.2, num_points=201)
    t = np.linspace(0.0, 1.0, 100_001)
    way = two_wells(-1.0 + 2.2 * t)
    np.testing.assert_allclose(skewed.height, np.max(way - t * way[-1]), rtol=1e-3)
    np.testing.assert_allclose(skewed.height_above_ends, 1.0 - way[-1], rtol=1e-3)


def test_no_barrier_where_the_loss_is_convex():
    barrier = linear_barrier(quadratic, point(-1.0), point(2.0), args=DATA)
    np.testing.assert_allclose([barrier.height, barrier.height_above_ends], 0.0)


def test_filters_get_the_norms_of_the_weights():
    rng = np.random.default_rng(0)
    shapes = {"conv": (3, 3, 2, 5), "dense": (6, 4), "bias": (4,), "scale": ()}
    params = {k: np.float32(rng.normal(size=shape)) for k, shape in shapes.items()}
    params["dense"][:, 1] = 0.0
    direction = {k: np.float16(rng.normal(size=shape)) for k, shape in shapes.items()}
    got = filter_normalise(direction, params)
    for name, axes in (("conv", (0, 1, 2)), ("dense", (0,))):
        assert got[name].dtype == jnp.float32
        filters = np.asarray(got[name]).reshape(-1, shapes[name][-1])
        wanted = np.sqrt(np.sum(params[name] ** 2, axis=axes))
        np.testing.assert_allclose(np.linalg.norm(filters, axis=0), wanted, rtol=1e-5)
        # The same direction within every filter.
        before = np.float32(direction[name]).reshape(filters.shape)
        inner = np.sum(filters * before, axis=0)
        lengths = wanted * np.linalg.norm(before, axis=0)
        np.testing.assert_allclose(inner, lengths, rtol=1e-5)
    np.testing.assert_array_equal(got["bias"], 0.0)
    assert got["scale"] == 0.0
    # The other order of axes, and a direction of zero.
    kernel = params["conv"].transpose(3, 2, 1, 0)
    turned = filter_normalise(
        direction["conv"].transpose(3, 2, 1, 0), kernel, filter_axis=0
    )
    np.testing.assert_allclose(np.transpose(turned), got["conv"], rtol=1e-5)
    np.testing.assert_array_equal(filter_normalise(0.0 * kernel, kernel), 0.0)


def test_the_slice_does_not_see_a_rescaling():
    """What filter normalisation is for."""

    def network(params, inputs):
        return jnp.mean((jax.nn.relu(inputs @ params["a"]) @ params["b"]) ** 2)

    keys = jax.random.split(jax.random.key(1), 4)
    params = {
        "a": jax.random.normal(keys[0], (4, 8)),
        "b": jax.random.normal(keys[1], (8, 1)),
    }
    scaled = {"a": 4.0 * params["a"], "b": params["b"] / 4.0}
    inputs = (jax.random.normal(keys[2], (16, 4)),)
    direction = {"a": jnp.ones((4, 8)), "b": jnp.ones((8, 1))}
    t = np.linspace(-1.0, 1.0, 5)
    lines = [
        loss_line(network, p, filter_normalise(direction, p), t, args=inputs).losses
        for p in (params, scaled)
    ]
    np.testing.assert_allclose(*lines, rtol=1e-4)
    plain = [
        loss_line(network, p, direction, t, args=inputs).losses
        for p in (params, scaled)
    ]
    assert not np.allclose(*plain, rtol=0.1)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_loss_that_is_not_finite_stays_so(value):
    line = loss_line(lambda x: jnp.where(x > 0.5, value, x), 0.0, 1.0, [0.0, 1.0])
    assert np.isfinite(line.losses[0]) and not np.isfinite(line.losses[1])
