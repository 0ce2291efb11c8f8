"""NumPy float64: estimators that a shift leaves alone shift before they round."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto

TI = hto.tail_index
DRAWS = np.asarray(
    hto.tails.student_t(2.0).sample(jax.random.key(0), (3, 2000)), np.float64
)
FAR = 1e7  # where float32 knows whole numbers only
EPS = float(np.finfo(np.float32).eps)


def pickands64(draws, quarter):
    first, second, fourth = np.sort(draws)[::-1][quarter * np.array([1, 2, 4]) - 1]
    return np.log2((first - second) / (second - fourth))


@pytest.mark.parametrize("location", [0.0, 0.1, -FAR, 1e12])
def test_pickands(location):
    draws = DRAWS + location
    got = TI.pickands(draws, 200)
    expected = [pickands64(row, 50) for row in draws]
    np.testing.assert_allclose(got.gamma, expected, rtol=1e-5, atol=1e-5)
    threshold = np.sort(draws)[:, -200]
    np.testing.assert_allclose(got.threshold, threshold, rtol=EPS)
    moved = TI.pickands(np.moveaxis(draws, -1, 0), 200, axis=0)
    np.testing.assert_array_equal(moved.gamma, got.gamma)


@pytest.mark.parametrize("location", [0.1, -FAR, 1e10])
def test_generalised_pareto(location):
    alone, got = (TI.generalised_pareto(x, 200) for x in (DRAWS, DRAWS + location))
    for field in set(alone._fields) - {"threshold"}:
        np.testing.assert_allclose(
            getattr(got, field), getattr(alone, field), rtol=1e-3, err_msg=field
        )
    threshold = np.sort(DRAWS + location)[:, -201]
    np.testing.assert_allclose(got.threshold, threshold, rtol=EPS)


def test_that_rounding_first_is_seen():
    """What the tests above would see if digits were cut off before the shift."""
    rounded = np.float32(DRAWS + FAR)
    for estimator in (TI.pickands, TI.generalised_pareto):
        wrong, right = estimator(rounded, 200).gamma, estimator(DRAWS, 200).gamma
        assert not (abs(wrong - right) < 0.01).any()


def test_the_verdict_has_the_fit_of_the_draws_before_rounding():
    draws = abs(DRAWS[0]) + FAR
    got = TI.assess_tail(draws, k=200).pareto
    expected = TI.generalised_pareto(abs(DRAWS[0]), 200)
    np.testing.assert_allclose(got.gamma, expected.gamma, rtol=1e-4)
    np.testing.assert_allclose(got.scale, expected.scale, rtol=1e-4)


def test_the_plot_of_the_mean_excess_is_in_float64():
    draws = DRAWS[0] + FAR
    axes = TI.plot_mean_excess(draws, 100)
    thresholds, excess = max((line.get_xydata() for line in axes.lines), key=len).T
    axes.figure.clear()
    top = np.sort(draws)[::-1]
    k = np.arange(6, 101)
    np.testing.assert_array_equal(thresholds, top[k])
    expected = [top[:i].mean() - top[i] for i in k]
    np.testing.assert_allclose(excess, expected, rtol=1e-6)


def test_float64_is_left_alone_where_jax_has_it():
    with jax.enable_x64(True):
        for draws in (DRAWS[0] + FAR, jnp.asarray(DRAWS[0] + FAR)):
            index = TI.pickands(draws, 200)
            assert index.gamma.dtype == jnp.float64
            expected = pickands64(DRAWS[0] + FAR, 50)
            np.testing.assert_allclose(index.gamma, expected, rtol=1e-12)
            location = TI.characteristic_function(draws).location
            assert location.dtype == jnp.float64
            assert location != np.float32(location)


def test_what_is_wider_than_float64_is_taken_too():
    draws = abs(DRAWS[0]).astype(np.longdouble)
    np.testing.assert_allclose(
        TI.hill(draws, 100).estimate, TI.hill(abs(DRAWS[0]), 100).estimate, rtol=1e-6
    )
    got = TI.pickands(draws + FAR, 200).gamma
    np.testing.assert_allclose(got, pickands64(abs(DRAWS[0]), 50), rtol=1e-5)
