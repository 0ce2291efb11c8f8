"""How the results of the flatness measures print."""

import jax
import jax.numpy as jnp
import optax
import pytest

from heavytail_optax import flatness

CURVATURES = jnp.array([1.0, 2.0, 3.0])


def loss(params):
    return 0.5 * jnp.sum(CURVATURES * params**2)


RESULTS = {
    "expected": lambda p, key: flatness.expected_sharpness(loss, p, key=key),
    "trace": lambda p, key: flatness.hessian_trace(loss, p, key=key),
    "critical": lambda p, key: flatness.critical_sharpness(loss, p, CURVATURES * p),
    "maximal": lambda p, key: flatness.maximal_sharpness(loss, p, key=key, target=0.1),
    "pac-bayes": lambda p, key: flatness.pac_bayes_sharpness(
        loss, p, key=key, target=0.1
    ),
    "barrier": lambda p, key: flatness.linear_barrier(loss, p, -p),
}


@pytest.mark.parametrize("name", RESULTS)
def test_one_result_is_a_line_with_its_numbers_and_a_batch_has_all(name):
    params, key = jnp.array([0.1, 0.2, 0.3]), jax.random.key(0)
    batch = jax.vmap(lambda p: RESULTS[name](p, key))(params[None])
    result = jax.tree.map(lambda x: x[0] if jnp.ndim(x) else x, batch)
    line = str(result)
    first = getattr(result, "mean", getattr(result, "sharpness", result[0]))
    assert f"{first:.4g}" in line
    assert "Array" not in line and "\n" not in line
    assert str(batch) == repr(batch)
    jax.eval_shape(lambda p: str(RESULTS[name](p, key)) and p, params)


SHAPES = {
    "density": lambda p: flatness.hessian_density(loss, p, key=0, num_samples=2),
    "line": lambda p: flatness.loss_line(loss, p, p, jnp.linspace(-1.0, 1.0, 5)),
    "plane": lambda p: flatness.loss_plane(
        loss, p, (p, p[::-1]), jnp.linspace(-1.0, 1.0, 5), jnp.zeros(1)
    ),
}


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("density", ["from 1 to 3", "2 random vectors"]),
        # 0.18 is the loss at the parameters; it is four times that twice as far.
        ("line", ["from 0 to 0.72", "5 points of a line", "-1 to 1"]),
        ("plane", ["from 0 to 0.72", "5 x 1 points of a plane", "0 to 0"]),
    ],
)
def test_a_curve_is_a_line_with_its_range(name, numbers):
    params = jnp.array([0.1, 0.2, 0.3])
    line = str(SHAPES[name](params))
    assert all(number in line for number in numbers), line
    assert "Array" not in line and "\n" not in line
    batch = jax.vmap(SHAPES[name])(params[None])
    assert str(batch) == repr(batch)


def test_eigenvalues_are_a_line_without_the_vectors():
    params = jnp.array([0.1, 0.2, 0.3])

    def found(p, num=2):
        return flatness.hessian_eigenvalues(loss, p, key=0, num_eigenvalues=num)

    result = found(params)
    line = str(result)
    assert line.startswith("eigenvalues of the Hessian: 3 within ")
    assert ", 2 within " in line and "\n" not in line and "vectors" not in line
    assert str(found(params, 1)).startswith("eigenvalue of")
    batch = jax.vmap(found)(params[None])
    assert str(batch) == repr(batch)
    jax.eval_shape(lambda p: str(found(p)) and p, params)
    many = result._replace(values=jnp.arange(9.0), residuals=jnp.zeros(9))
    assert "4 within 0, 3 more, 8 within 0" in str(many)


@pytest.mark.parametrize(
    "measure",
    [
        lambda f, p: flatness.hessian_eigenvalues(f, p, key=0),
        lambda f, p: flatness.hessian_eigenvalues(f, p, key=0, num_eigenvalues=3),
        lambda f, p: flatness.hessian_trace(f, p, key=0),
        lambda f, p: flatness.hessian_density(f, p, key=0, num_samples=2),
    ],
)
def test_a_hessian_that_is_exactly_zero_is_said(measure):
    def error_rate(p):
        return jnp.mean((p > 0.15).astype(jnp.float32))

    def saddle(p):  # its trace is zero, its Hessian is not
        return p[0] * p[1] + 2.0 * p[1] * p[2]

    params = jnp.array([0.1, 0.2, 0.3])
    assert "piecewise constant" in str(measure(error_rate, params))
    assert "piecewise constant" not in str(measure(loss, params))
    assert "piecewise constant" not in str(measure(saddle, params))


def test_an_escape_profile_is_a_line_with_its_shares():
    def found(p, jump_norm):
        return flatness.escape_profile(
            lambda x: jnp.sum(jnp.cos(4.0 * x)),
            p,
            key=0,
            jump_norm=jump_norm,
            learning_rate=0.01,
            num_samples=16,
            max_jumps=4,
            descent_steps=50,
            num_points=5,
        )

    params = jnp.array([jnp.pi / 4.0])
    stays, leaves = found(params, 0.01), found(params, 0.5)
    assert str(stays).startswith("share of 16 paths that escaped: 0 (0 to ")
    assert str(stays).endswith("after 4 jumps; none has")
    assert 1 < int(leaves.fewest_jumps) < 4
    text = f"{leaves.probability[3]:.2g} ({leaves.lower[3]:.2g} to "
    assert text in str(leaves)
    assert str(leaves).endswith(f"the first after {int(leaves.fewest_jumps)}")
    batch = jax.tree.map(lambda x: x[None] if hasattr(x, "shape") else x, leaves)
    assert str(batch) == repr(batch)
    jax.eval_shape(lambda p: str(found(p, 0.5)) and p, params)


def test_an_optax_update_in_place_of_a_direction_is_said():
    params = jnp.array([0.1, 0.2, 0.3])
    optimizer = optax.sgd(0.1)
    update, _ = optimizer.update(CURVATURES * params, optimizer.init(params))
    right = flatness.critical_sharpness(loss, params, -update)
    wrong = flatness.critical_sharpness(loss, params, update)
    assert not right.search.hit_lower and "Optax" not in str(right)
    assert wrong.search.hit_lower and "minus an Optax update" in str(wrong)
    assert "at least" in str(wrong)


def test_a_search_that_hit_a_bound_says_on_which_side_the_sharpness_is():
    key, low = jax.random.key(0), jnp.zeros(3)
    within = flatness.pac_bayes_sharpness(loss, low, key=key, target=1e9)
    beyond = flatness.pac_bayes_sharpness(loss, low, key=key, target=1e-12)
    assert within.search.hit_upper and "at most" in str(within)
    assert beyond.search.hit_lower and "at least" in str(beyond)
