import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import small_network

from heavytail_optax.flatness import (
    gauss_newton_loss,
    hessian_eigenvalues,
    hessian_trace,
)

PARAMS, ARGS = small_network.make()
DENSE = np.asarray(small_network.dense_hessian(small_network.loss, PARAMS, ARGS))
VALUES = np.linalg.eigvalsh(DENSE.astype(np.float64))
GAUSS_NEWTON = gauss_newton_loss(small_network.predict, small_network.loss_of_outputs)
SIX_ERRORS = 6.0  # about one false alarm in 1e6 keys, by the normal law

eigenvalues = functools.partial(hessian_eigenvalues, small_network.loss, args=ARGS)


def columns(vectors):
    """The eigenvectors as the columns of a matrix, ordered like the dense Hessian."""
    flat = jax.vmap(lambda v: jax.flatten_util.ravel_pytree(v)[0])(vectors)
    return np.asarray(flat).T


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("largest", VALUES[::-1][:3]),
        ("smallest", VALUES[:3]),
        ("magnitude", VALUES[np.argsort(-np.abs(VALUES))][:3]),
    ],
)
def test_eigenpairs_of_the_dense_hessian(which, expected):
    result = eigenvalues(PARAMS, key=0, num_eigenvalues=3, which=which, num_matvecs=48)
    np.testing.assert_allclose(result.values, expected, rtol=1e-4, atol=1e-6)
    assert jax.tree.structure(result.vectors) == jax.tree.structure(PARAMS)
    vectors = columns(result.vectors)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(
        DENSE @ vectors, vectors * np.asarray(result.values), atol=1e-5
    )


def test_residuals_bound_the_error():
    few = eigenvalues(PARAMS, key=0, num_eigenvalues=2, num_matvecs=6)
    vectors = columns(few.vectors)
    true = np.linalg.norm(DENSE @ vectors - vectors * np.asarray(few.values), axis=0)
    np.testing.assert_allclose(few.residuals, true, rtol=1e-3)
    assert few.residuals.max() > 1e-3
    distances = np.abs(VALUES[None, :] - np.asarray(few.values)[:, None]).min(1)
    assert np.all(distances <= few.residuals)


@pytest.mark.parametrize(
    "values", [[0.0], [3.0], [-1e-6], [1e8, 1.0], [2.0, 0.0, -1.0]]
)
def test_exhausted_krylov_space(values):
    """Every eigenvalue is found once, however often it occurs."""
    curvature = jnp.asarray(np.repeat(values, 5), jnp.float32)
    result = hessian_eigenvalues(
        lambda w, h: 0.5 * jnp.sum(h * w**2),
        jnp.ones(curvature.size),
        key=0,
        args=(curvature,),
        num_eigenvalues=5,
    )
    found = np.asarray(result.values)
    assert np.isnan(found).sum() == 5 - len(values)
    tolerance = 1e-6 * max(np.abs(values))
    np.testing.assert_allclose(found[: len(values)], values, atol=tolerance)
    assert np.isfinite(result.vectors).all()


def test_more_matrix_vector_products_than_parameters():
    result = hessian_eigenvalues(
        lambda w: w[0] ** 2 - 3.0 * w[1] ** 2, jnp.ones(2), key=0, num_matvecs=50
    )
    np.testing.assert_allclose(result.values, [2.0], rtol=1e-5)


def test_trace():
    result = hessian_trace(
        small_network.loss, PARAMS, key=0, args=ARGS, num_samples=8000
    )
    assert abs(result.mean - np.trace(DENSE)) < SIX_ERRORS * result.standard_error
    off_diagonal = np.sum(DENSE**2) - np.sum(np.diag(DENSE) ** 2)
    error = np.sqrt(2 * off_diagonal / 8000)
    np.testing.assert_allclose(result.standard_error, error, rtol=0.15)
    # The error bar is not so wide that anything passes.
    assert abs(result.mean - 1.2 * np.trace(DENSE)) > SIX_ERRORS * result.standard_error


def test_trace_of_a_diagonal_hessian_is_exact():
    result = hessian_trace(lambda w: jnp.sum(w**4), jnp.ones(5), key=0, num_samples=3)
    np.testing.assert_allclose(result.mean, 60.0)
    np.testing.assert_allclose(result.standard_error, 0.0, atol=1e-5)
    assert np.isnan(hessian_trace(lambda w: w**2, 1.0, key=0, num_samples=1)[1])


def test_gauss_newton():
    dense = np.asarray(small_network.dense_gauss_newton(PARAMS, ARGS))
    np.testing.assert_allclose(
        small_network.dense_hessian(GAUSS_NEWTON, PARAMS, ARGS), dense, atol=1e-6
    )
    one, other = [
        jax.flatten_util.ravel_pytree(jax.jit(jax.value_and_grad(f))(PARAMS, *ARGS))[0]
        for f in (GAUSS_NEWTON, small_network.loss)
    ]
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    result = hessian_eigenvalues(GAUSS_NEWTON, PARAMS, key=0, args=ARGS, num_matvecs=30)
    np.testing.assert_allclose(
        result.values[0], np.linalg.eigvalsh(dense)[-1], rtol=1e-4
    )
    # It is another matrix than the Hessian.
    assert abs(result.values[0] / VALUES[-1] - 1.0) > 0.01


def test_half_precision_parameters():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    result = eigenvalues(half, key=0, num_matvecs=20)
    assert result.values.dtype == jnp.float32
    assert result.vectors["bias"].dtype == jnp.float32
    np.testing.assert_allclose(result.values[0], VALUES[-1], rtol=0.1)


def test_under_jit():
    measure = functools.partial(eigenvalues, num_matvecs=48, num_eigenvalues=3)
    result = jax.jit(measure)(PARAMS, key=0)
    np.testing.assert_allclose(result.values, VALUES[::-1][:3], rtol=1e-4)


def test_a_loss_that_is_not_finite_further_off_gives_nan():
    result = hessian_eigenvalues(lambda w: jnp.sum(jnp.sqrt(w)), jnp.zeros(3), key=0)
    assert np.isnan(result.values).all()
