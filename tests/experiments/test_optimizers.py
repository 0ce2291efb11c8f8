import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.training.steps import (
    average_at_the_end,
    build_optimizer,
    gradient_point,
    until_cooldown,
)

GRADIENT = {"weight": np.array([30.0, -40.0], np.float32)}


def update_of(name, settings, state=None):
    method = replaced(settings, method=name).method
    optimizer = build_optimizer(settings.training, method, jax.random.key(0))
    state = optimizer.init(GRADIENT) if state is None else state
    updates, state = optimizer.update(
        GRADIENT, state, GRADIENT, grad_fn=lambda *_: GRADIENT
    )
    return np.asarray(updates["weight"]), state


@pytest.mark.parametrize("name", ["sgd-large-batch", "sgd", "inflated"])
def test_methods_without_truncation_take_the_whole_step(name, tiny):
    update, _ = update_of(name, tiny)
    np.testing.assert_allclose(
        update, -tiny.training.learning_rate * GRADIENT["weight"]
    )


@pytest.mark.parametrize("name", ["sgd-truncated", "independent", "shared", "balanced"])
def test_the_update_is_cut_after_the_learning_rate(name, tiny):
    settings = replaced(tiny, max_norm=0.5)
    update, _ = update_of(name, settings)
    np.testing.assert_allclose(update, [-0.3, 0.4], rtol=1e-6)
    settings = replaced(tiny, max_norm=2.6)  # 0.05 * 50 = 2.5
    update, _ = update_of(name, settings)
    np.testing.assert_allclose(
        update, -tiny.training.learning_rate * GRADIENT["weight"]
    )


@pytest.mark.parametrize("name", ["sgd-truncated", "balanced"])
def test_a_share_in_place_of_a_norm_sets_the_bound_in_the_first_tenth(name, tiny):
    settings = replaced(tiny, max_norm=None, truncated_share=0.1, steps=2000)
    state, cut = None, []
    for _ in range(200):
        _, state = update_of(name, settings, state)
        cut.append(int(optax.tree.get(state, "num_truncated")))
    # All norms are 0.05 * 50; a bound below it is cut, and rises.
    bound = float(optax.tree.get(state, "max_norm"))
    assert 2.0 < bound < 3.5
    # A tenth of the 100 updates after the warm-up, within what log b may move.
    assert 5 <= cut[199] - cut[99] <= 15
    for _ in range(20):
        _, state = update_of(name, settings, state)
    assert float(optax.tree.get(state, "max_norm")) == bound


def test_the_bound_is_that_of_the_study_unless_it_is_given(tiny):
    _, state = update_of("balanced", replaced(tiny, max_norm=None))
    assert float(optax.tree.get(state, "max_norm")) == 0.25


def test_noise_is_constant_and_then_zero():
    scale = until_cooldown(0.5, 8)
    assert [float(scale(step)) for step in (0, 7, 8, 9)] == [0.5, 0.5, 0.0, 0.0]


def test_generated_noise_is_cut_and_ends_with_the_cooldown(tiny):
    name = "truncated-heavy-tailed-sgd"
    settings = replaced(tiny, steps=4, cooldown=0.5, noise_scale=1e3, max_norm=2.6)
    plain = -tiny.training.learning_rate * GRADIENT["weight"]
    state, norms = None, []
    for step in range(4):
        update, state = update_of(name, settings, state)
        assert (np.abs(update - plain).max() < 1e-6) == (step >= 2)
        norms.append(optax.tree.norm(update))
    np.testing.assert_allclose(norms, [2.6, 2.6, 2.5, 2.5], rtol=1e-5)


def test_no_noise_and_no_truncation_is_sgd(tiny):
    settings = replaced(tiny, noise_scale=0.0, max_norm=1e6)
    expected, _ = update_of("sgd", settings)
    for name in METHODS:
        update, _ = update_of(name, settings)
        np.testing.assert_allclose(update, expected, rtol=1e-6)


def test_sam_takes_the_gradient_uphill(tiny):
    """On x^T H x / 2: the gradient H (x + rho H x / |H x|)."""
    settings = replaced(tiny, sam_radius=0.3)
    method = replaced(settings, method="sam").method
    optimizer = build_optimizer(settings.training, method, jax.random.key(0))
    hessian = np.diag([1.0, 5.0])
    x = np.array([2.0, -1.0])

    def gradient(params, _):
        return {"weight": hessian.astype(np.float32) @ params["weight"]}

    params = {"weight": x.astype(np.float32)}
    state = optimizer.init(params)
    updates, _ = optimizer.update(gradient(params, 0), state, params, grad_fn=gradient)
    slope = hessian @ x
    above = hessian @ (x + 0.3 * slope / np.linalg.norm(slope))
    np.testing.assert_allclose(
        updates["weight"], -tiny.training.learning_rate * above, rtol=1e-5
    )


HESSIAN = np.array([[1.0, 0.5], [0.5, 5.0]])
NOISE = np.random.default_rng(1).normal(size=(6, 2))


def path_of(name, settings):
    """Six steps on x^T H x / 2 with noise in the gradient, the same in both passes."""
    method = replaced(settings, method=name).method
    optimizer = build_optimizer(settings.training, method, jax.random.key(0))
    params = {"weight": jnp.array([2.0, -1.0])}
    state, path = optimizer.init(params), []
    for noise in NOISE:

        def gradient(params, _=0, noise=noise):
            slope = jnp.asarray(HESSIAN, jnp.float32) @ params["weight"]
            return {"weight": slope + jnp.asarray(noise, jnp.float32)}

        point = gradient_point(method, params, state)
        updates, state = optimizer.update(
            gradient(point), state, params, grad_fn=gradient
        )
        params = optax.apply_updates(params, updates)
        path.append(params["weight"])
    return np.asarray(path)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_msam_is_the_algorithm_of_its_paper(tiny, momentum):
    """Becker et al. 2024, algorithm 1, with the weights that it keeps: perturbed ones."""
    rho, rate = 0.3, tiny.training.learning_rate
    perturbed, v, expected = np.array([2.0, -1.0]), np.zeros(2), []
    for noise in NOISE:
        gradient = HESSIAN @ perturbed + noise
        size = np.linalg.norm(v)
        weights = perturbed + (rho * v / size if size else 0.0)
        v = momentum * v + gradient
        weights = weights - rate * v
        perturbed = weights - rho * v / np.linalg.norm(v)
        expected.append(weights)
    settings = replaced(tiny, sam_radius=rho, momentum=momentum)
    path = path_of("msam", settings)
    np.testing.assert_allclose(path, expected, rtol=1e-5)
    # Not what SGD with the same momentum does: that has no perturbation.
    other = path_of("msam", replaced(settings, sam_radius=1e-6))
    assert np.abs(path - other).max() > 1e-2


@pytest.mark.parametrize("decay", [0.0, 0.6, 0.9])
def test_f_sam_climbs_along_the_noise(tiny, decay):
    """Li et al. 2024: the direction is the gradient less the mean of those before."""
    rho, rate = 0.3, tiny.training.learning_rate
    x, mean, expected = np.array([2.0, -1.0]), None, []
    for noise in NOISE:
        gradient = HESSIAN @ x + noise
        direction = gradient if mean is None else gradient - mean
        mean = gradient if mean is None else decay * mean + (1 - decay) * gradient
        above = x + rho * direction / np.linalg.norm(direction)
        x = x - rate * (HESSIAN @ above + noise)
        expected.append(x)
    settings = replaced(tiny, sam_radius=rho, gradient_average=decay)
    path = path_of("f-sam", settings)
    np.testing.assert_allclose(path, expected, rtol=1e-4)
    assert np.abs(path - path_of("sam", settings)).max() > 1e-2


@pytest.mark.parametrize(
    ("share", "number"), [(0.25, 2), (0.3, 2), (1.0, 8), (1e-9, 1)]
)
def test_the_last_step_leads_to_the_mean(share, number):
    steps = 8
    moves = np.random.default_rng(0).normal(size=(steps, 3)).astype(np.float32)
    chain = average_at_the_end(steps, share)
    params = {"weight": jnp.ones(3)}
    state = chain.init(params)
    update = jax.jit(chain.update)
    path = 1.0 + np.cumsum(moves.astype(np.float64), axis=0)
    for step, move in enumerate(moves):
        updates, state = update({"weight": jnp.asarray(move)}, state, params)
        params = optax.apply_updates(params, updates)
        if step < steps - 1:
            np.testing.assert_array_equal(updates["weight"], move)
    expected = path[-number:].mean(axis=0)
    np.testing.assert_allclose(params["weight"], expected, rtol=1e-5, atol=1e-6)


def test_data_types_are_kept():
    chain = average_at_the_end(1, 1.0)
    params = {"weight": jnp.ones(3, jnp.bfloat16)}
    updates, state = chain.update(params, chain.init(params), params)
    assert updates["weight"].dtype == jnp.bfloat16
    assert state.mean["weight"].dtype == jnp.bfloat16
