import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import small_network

from heavytail_optax.flatness import hessian_density

PARAMS, ARGS = small_network.make()
DENSE = np.asarray(small_network.dense_hessian(small_network.loss, PARAMS, ARGS))
VALUES = np.linalg.eigvalsh(DENSE.astype(np.float64))
# About one false alarm in 1e6 keys, by the t law with 99 degrees of freedom.
SIX_ERRORS = 6.0

density = functools.partial(
    hessian_density, small_network.loss, PARAMS, key=0, args=ARGS, num_matvecs=48
)


@pytest.fixture(scope="module")
def result():
    return density(num_samples=100, width=0.05, num_points=60)


def test_against_the_dense_hessian(result):
    exact = scipy.stats.norm.pdf(
        np.asarray(result.eigenvalues)[:, None], VALUES[None, :], 0.05
    ).mean(1)
    distance = np.abs(result.density - exact)
    assert np.all(distance < SIX_ERRORS * result.standard_error + 1e-4)
    # The error bar is not so wide that anything passes.
    assert np.mean(result.standard_error) < 0.1 * np.mean(result.density)
    np.testing.assert_allclose(
        np.trapezoid(result.density, result.eigenvalues), 1.0, rtol=1e-3
    )
    np.testing.assert_allclose(result.width, 0.05)


def test_moments_from_nodes_and_weights(result):
    """Gauss quadrature: `sum_k tau_k f(theta_k)` is exact for `f(t) = 1, t, t^2`."""
    weights, nodes = np.asarray(result.weights), np.nan_to_num(np.asarray(result.nodes))
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-5)
    for power in (1, 2):
        samples = np.sum(weights * nodes**power, axis=1)
        error = samples.std(ddof=1) / 10
        assert abs(samples.mean() - np.mean(VALUES**power)) < SIX_ERRORS * error


def test_one_eigenvalue_and_one_sample():
    result = hessian_density(
        lambda w: 1.5 * jnp.sum(w**2), jnp.ones(4), key=0, num_samples=1
    )
    assert np.isnan(result.standard_error).all()
    np.testing.assert_allclose(
        np.trapezoid(result.density, result.eigenvalues), 1.0, rtol=1e-3
    )
    mean = np.trapezoid(result.density * result.eigenvalues, result.eigenvalues)
    np.testing.assert_allclose(mean, 3.0, rtol=1e-3)


def test_under_jit():
    compiled = jax.jit(lambda: density(num_samples=2))()
    area = np.trapezoid(compiled.density, compiled.eigenvalues)
    np.testing.assert_allclose(area, 1.0, rtol=1e-3)
