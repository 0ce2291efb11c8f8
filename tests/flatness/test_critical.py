"""Critical sharpness on quadratics, where it is d'Hd / g'd, and at its bounds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax.flatness import critical_sharpness

TOLERANCES = [1.0, 1 / 16, 1e-3]
KEYS = range(4)


def quadratic(w, curvature):
    return 0.5 * jnp.sum(curvature * w**2)


def along(curvature, gradient, direction):
    """`d'Hd / g'd` in float64."""
    h, g, d = (np.asarray(x, np.float64) for x in (curvature, gradient, direction))
    return np.sum(h * d * d) / np.sum(g * d)


def problem(seed):
    keys = jax.random.split(jax.random.key(seed), 3)
    curvature = jnp.exp(2.0 * jax.random.normal(keys[0], (20,)))
    w = jax.random.normal(keys[1], (20,))
    return curvature, w, curvature * w, keys[2]


@pytest.mark.parametrize("tolerance", TOLERANCES)
@pytest.mark.parametrize("seed", KEYS)
def test_on_a_quadratic_it_is_the_curvature_along_the_gradient(seed, tolerance):
    curvature, w, gradient, _ = problem(seed)
    found = critical_sharpness(
        quadratic, w, gradient, args=(curvature,), tolerance=tolerance
    )
    expected = along(curvature, gradient, gradient)
    low, high = np.asarray(found.bracket, np.float64)
    assert low * (1 - 1e-5) <= 2 / expected <= high * (1 + 1e-5)
    assert high <= low * (1 + tolerance) * (1 + 1e-6)
    np.testing.assert_allclose(found.step, math.sqrt(low * high), rtol=1e-6)
    np.testing.assert_allclose(found.sharpness, 2 / found.step, rtol=1e-6)
    assert not found.search.hit_lower and not found.search.hit_upper
    assert found.sharpness <= np.max(curvature) * (1 + tolerance)


@pytest.mark.parametrize("seed", KEYS)
def test_along_another_loss_s_update_it_is_relative(seed):
    curvature, w, gradient, key = problem(seed)
    others = jnp.exp(jax.random.normal(key, w.shape))
    update = others * w  # the gradient of another quadratic, an ascent of both
    found = critical_sharpness(quadratic, w, update, args=(curvature,), tolerance=1e-3)
    expected = along(curvature, gradient, update)
    np.testing.assert_allclose(found.sharpness, expected, rtol=2e-3)


def test_the_result_does_not_depend_on_the_first_step_but_its_cost_does():
    curvature, w, gradient, _ = problem(0)

    def measure(initial_step):
        return critical_sharpness(
            quadratic, w, gradient, args=(curvature,), initial_step=initial_step
        )

    expected = along(curvature, gradient, gradient)
    near, far = measure(2.2 / expected), measure(1e-6)
    for found in (near, far):
        np.testing.assert_allclose(found.sharpness, expected, rtol=1 / 16)
    assert near.search.num_evaluations == 7
    doublings = math.ceil(math.log2(2 / expected / 1e-6))
    assert abs(far.search.num_evaluations - (2 + doublings + 4)) <= 1


def test_evaluations_are_counted():
    curvature, w, gradient, _ = problem(1)
    seen = []

    def counted(w, curvature):
        jax.debug.callback(lambda: seen.append(1))
        return quadratic(w, curvature)

    found = critical_sharpness(counted, w, gradient, args=(curvature,))
    jax.effects_barrier()
    assert len(seen) == found.search.num_evaluations


def test_bounds_that_are_hit_are_told():
    curvature, w, gradient, _ = problem(2)
    rising = critical_sharpness(quadratic, w, -gradient, args=(curvature,), lower=0.01)
    assert rising.search.hit_lower and not rising.search.hit_upper
    np.testing.assert_allclose(rising.bracket, [0.0, 0.01], rtol=1e-6)
    np.testing.assert_allclose(rising.sharpness, 200.0, rtol=1e-6)
    resting = critical_sharpness(quadratic, w, 0 * w, args=(curvature,), upper=4.0)
    falling = critical_sharpness(lambda w: jnp.sum(w), w, jnp.ones(20), upper=4.0)
    for found in (resting, falling):
        assert found.search.hit_upper and not found.search.hit_lower
        np.testing.assert_array_equal(found.bracket, [4.0, math.inf])
        assert found.sharpness == 0.5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("first", [1.0, 1e-8])
def test_an_update_with_the_wrong_sign_hits_the_lower_bound(dtype, first):
    """Also where the shortest steps are lost in the rounding of the parameters."""
    curvature, w, gradient, _ = problem(2)
    found = critical_sharpness(
        *(quadratic, w.astype(dtype), -gradient.astype(dtype)),
        args=(curvature,),
        initial_step=first,
    )
    assert found.search.hit_lower and not found.search.hit_upper
    assert found.bracket[0] == 0.0 and found.step == found.bracket[1]


def not_valid():
    """Changes of good arguments that nothing can refuse while they are traced."""
    yield "lower", math.nan
    yield "lower", -1.0
    yield "upper", math.nan
    yield "upper", math.inf
    yield "upper", 1e-9
    yield "initial_step", math.nan
    yield "initial_step", -1.0
    yield "initial_step", 1e9
    yield "tolerance", math.nan
    yield "tolerance", -1.0
    yield "tolerance", 2.0
    yield "factor", math.nan
    yield "factor", math.inf
    yield "towards", math.nan
    yield "towards", math.inf


@pytest.mark.parametrize(("name", "value"), [*not_valid()])
def test_what_is_not_valid_gives_nan_under_jit(name, value):
    curvature, w, gradient, _ = problem(3)

    @jax.jit
    def measure(factor=1.0, towards=1.0, **settings):
        def loss(w):
            return factor * quadratic(w, curvature)

        return critical_sharpness(loss, w, towards * gradient, **settings)

    good = measure()
    assert np.isfinite(good.sharpness) and good.search.num_evaluations > 2
    found = measure(**{name: value})
    assert np.isnan(found.sharpness) and np.isnan(found.step)
    assert np.isnan(found.bracket).all()
    assert not found.search.hit_lower and not found.search.hit_upper


@pytest.mark.parametrize("beyond", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_raised(beyond):
    def cliff(w):
        return jnp.where(w < -0.7, beyond, w)

    found = critical_sharpness(cliff, jnp.zeros(()), jnp.ones(()), tolerance=1e-3)
    np.testing.assert_allclose(found.step, 0.7, rtol=1e-3)


def test_under_jit_and_vmap_it_is_the_same():
    problems = [problem(seed)[:3] for seed in KEYS]
    alone = [critical_sharpness(quadratic, w, g, args=(h,)) for h, w, g in problems]
    h, w, g = (jnp.stack(x) for x in zip(*problems, strict=True))

    @jax.jit
    @jax.vmap
    def together(h, w, g, first):
        return critical_sharpness(quadratic, w, g, args=(h,), initial_step=first)

    both = together(h, w, g, jnp.ones(len(problems)))
    for index, single in enumerate(alone):
        np.testing.assert_allclose(both.sharpness[index], single.sharpness, rtol=1e-6)
        assert both.search.num_evaluations[index] == single.search.num_evaluations


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_parameters_in_half_precision_are_measured_where_they_can_be(dtype):
    curvature, w, gradient, _ = problem(3)
    w, gradient = w.astype(dtype), gradient.astype(dtype)

    def change(step):
        """Of the loss, where the moved parameters are rounded to their own dtype."""
        moved = (w.astype(jnp.float32) - step * gradient.astype(jnp.float32)).astype(
            dtype
        )
        before, after = (
            np.sum(np.asarray(curvature, np.float64) * np.asarray(x, np.float64) ** 2)
            for x in (w, moved)
        )
        return after - before

    found = critical_sharpness(quadratic, w, gradient, args=(curvature,))
    assert found.sharpness.dtype == jnp.float32
    low, high = (float(x) for x in found.bracket)
    assert change(low) < 0.0 < change(high) and high <= low * (1 + 1 / 16) * (1 + 1e-6)
