import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import small_network

from heavytail_optax.flatness import (
    gauss_newton_loss,
    hessian_density,
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


def quadratic(w, matrix):
    return 0.5 * jnp.sum(w * jnp.matmul(matrix, w, precision="highest"))


def random_matrix(size, rank=None):
    """A symmetric matrix that is exact in float32."""
    draws = np.random.default_rng(0).integers(-9, 10, (size, rank or size))
    matrix = draws @ draws.T if rank else draws + draws.T
    return matrix.astype(np.float32)


def hessian_in_float64():
    def widened(x):
        x = np.asarray(x)
        return jnp.asarray(x.astype(np.float64) if x.dtype == np.float32 else x)

    with jax.enable_x64(True):
        params, args = jax.tree.map(widened, (PARAMS, ARGS))
        dense = small_network.dense_hessian(small_network.loss, params, args)
        return np.asarray(dense)


NETWORK = small_network.loss, PARAMS, ARGS
OF_NETWORK = hessian_in_float64()
# The loss, its parameters and data, the Hessian, and the number of products. In all but
# those whose names begin with "few" the Krylov space is exhausted.
BOUNDED = {
    "network": (*NETWORK, OF_NETWORK, 48),
    "few of the network": (*NETWORK, OF_NETWORK, 6),
} | {
    name: (quadratic, jnp.ones(len(matrix)), (jnp.asarray(matrix),), matrix, products)
    for name, matrix, products in (
        ("symmetric", random_matrix(10), 10),
        ("larger", random_matrix(100), 100),
        ("few of the larger", random_matrix(100), 20),
        ("of rank 3", random_matrix(60, 3), 50),
        ("identity", np.eye(5, dtype=np.float32), 5),
        ("repeated", np.diag(np.repeat([2.0, 0.0, -1.0], 5)).astype(np.float32), 15),
        ("far apart", np.diag(np.repeat([1e8, 1.0], 5)).astype(np.float32), 10),
        ("tiny", 1e-12 * random_matrix(20), 20),
    )
}


@pytest.mark.parametrize("name", BOUNDED)
def test_residuals_bound_the_error(name):
    """Those of float32, against the Hessian in float64."""
    loss, params, args, dense, num_matvecs = BOUNDED[name]
    found = hessian_eigenvalues(
        loss, params, key=0, args=args, num_eigenvalues=3, num_matvecs=num_matvecs
    )
    values, vectors = (np.float64(x) for x in (found.values, columns(found.vectors)))
    is_found = np.isfinite(values)
    assert is_found.any()
    assert np.isnan(found.residuals[~is_found]).all()
    values, vectors = values[is_found], vectors[:, is_found]
    residuals = np.asarray(found.residuals)[is_found]
    dense = dense.astype(np.float64)
    true = np.linalg.norm(dense @ vectors - vectors * values, axis=0)
    eigenvalues = np.linalg.eigvalsh(dense)
    rounding = np.finfo(np.float32).eps * np.abs(eigenvalues).max()
    assert np.all(true <= residuals)
    # No wider than by rounding.
    assert np.all(residuals <= true + 8.0 * rounding)
    distances = np.abs(eigenvalues[None, :] - values[:, None]).min(1)
    assert np.all(distances <= residuals)
    is_few = name.startswith("few")
    assert (residuals.max() > 1e-3 * np.abs(eigenvalues).max()) == is_few


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


def naive_ritz_values(diagonal, start, steps):
    """Lanczos with full reorthogonalisation that does not see that nothing is left."""
    basis, rest = np.zeros((0, start.size), np.float32), start
    diagonals, below = [], []
    for _ in range(steps):
        basis = np.vstack([basis, rest / np.linalg.norm(rest)])
        rest = diagonal * basis[-1]
        diagonals.append(basis[-1] @ rest)
        for _ in range(2):
            rest = rest - basis.T @ (basis @ rest)
        below.append(np.linalg.norm(rest))
    beside = np.diag(below[:-1], 1)
    return np.linalg.eigvalsh(np.diag(diagonals) + beside + beside.T)


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_ritz_values_of_two_eigenvalues_stay_within_the_spectrum(steps):
    """50 dimensions, half of them with curvature 1, half with curvature 2."""
    diagonal = np.repeat(np.float32([1.0, 2.0]), 25)

    def loss(w, h):
        return 0.5 * jnp.sum(h * w**2)

    arguments = {"key": 0, "args": (jnp.asarray(diagonal),), "num_matvecs": steps}
    found = hessian_eigenvalues(loss, jnp.ones(50), num_eigenvalues=10, **arguments)
    np.testing.assert_allclose(found.values[:2], [2.0, 1.0], rtol=1e-6)
    assert np.isnan(found.values[2:]).all()
    density = hessian_density(loss, jnp.ones(50), num_samples=3, **arguments)
    nodes = np.asarray(density.nodes)[np.asarray(density.weights) > 0]
    assert nodes.min() > 1.0 - 1e-5
    assert nodes.max() < 2.0 + 1e-5


def test_naive_ritz_values_of_two_eigenvalues_leave_the_spectrum():
    """The control of the test above: finite values, far outside."""
    diagonal = np.repeat(np.float32([1.0, 2.0]), 25)
    starts = np.random.default_rng(0).normal(size=(20, 50)).astype(np.float32)
    values = np.stack([naive_ritz_values(diagonal, start, 20) for start in starts])
    assert np.isfinite(values).all()
    # What is left is rounding, so that not every start shows it.
    assert values.min() < 0.5
    assert values.max() > 2.5


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


def test_gauss_newton_of_a_function_that_closes_over_what_is_differentiated():
    def slope(make, factor):
        loss = make(lambda w: jnp.tanh(w * factor), lambda y: jnp.sum(y**3))
        return jax.grad(loss)(jnp.array([0.5, -1.0])).sum()

    def plain(predict, loss):
        return lambda w: loss(predict(w))

    got, expected = (
        jax.grad(functools.partial(slope, make))(1.3)
        for make in (gauss_newton_loss, plain)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5)


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
