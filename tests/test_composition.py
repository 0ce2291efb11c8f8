"""Chains with other optimisers, vmap, grad, and the training loops of Flax."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training import train_state

import heavytail_optax as hto

EPS = float(jnp.finfo(jnp.float32).eps)
TAIL = hto.tails.symmetric_pareto(1.4)
MAX_NORM = 0.25

# A regression whose optimum is known: the targets are linear in the inputs.
INPUTS = jax.random.normal(jax.random.key(1), (32, 4))
WEIGHTS = jnp.linspace(-1.0, 1.0, 8).reshape(4, 2)
PARAMS = {"w": jnp.zeros((4, 2)), "b": jnp.ones(2)}


def loss_fn(params):
    outputs = INPUTS @ params["w"] + jnp.expand_dims(params["b"], 0)
    return jnp.mean((outputs - INPUTS @ WEIGHTS) ** 2)


def noise(scale=0.02, key=0):
    return hto.add_heavy_tailed_noise(TAIL, scale, key=key)


# Chains


INNER = {
    "sgd": optax.sgd(0.1),
    "sgd_with_momentum": optax.sgd(0.02, momentum=0.9),
    "adam": optax.adam(0.05),
    "adamw": optax.adamw(0.05),
    "lion": optax.lion(0.02),
    "muon": optax.contrib.muon(0.05),
}


def train(optimizer, num_steps, **extra):
    """Losses, norms of the updates, and the final state, in one scan."""

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(params)
            updates, state = optimizer.update(grads, state, params, **extra)
            # In float64 by hand: the norm is what is tested.
            sizes = jnp.concatenate([x.ravel() for x in jax.tree.leaves(updates)])
            return (optax.apply_updates(params, updates), state), (loss, sizes)

        (params, state), history = jax.lax.scan(
            step, (params, optimizer.init(params)), length=num_steps
        )
        return params, state, history

    params, state, (losses, sizes) = run(PARAMS)
    norms = np.linalg.norm(np.asarray(sizes, np.float64), axis=1)
    return params, state, np.asarray(losses), norms


def chain_around(inner, last):
    # What normalises its steps tames the noise ahead of it, so there is noise behind.
    return optax.chain(noise(), INNER[inner], noise(0.01, key=1), last)


@pytest.mark.parametrize("inner", INNER)
def test_chains_bound_every_step_and_learn(inner):
    truncation = hto.truncate_update_norm(MAX_NORM)
    params, state, losses, norms = train(chain_around(inner, truncation), 150)
    # Each entry of a truncated update is rounded once, its norm a few times.
    assert norms.max() <= MAX_NORM * (1 + 4 * EPS)
    num_truncated = int(optax.tree.get(state, "num_truncated"))
    at_bound = np.isclose(norms, MAX_NORM, rtol=4 * EPS, atol=0)
    assert num_truncated == at_bound.sum()
    assert 0 < num_truncated < 150
    assert loss_fn(params) < 0.1 * losses[0]


@pytest.mark.parametrize("inner", ["sgd", "adam"])
def test_without_truncation_the_bound_would_not_hold(inner):
    """The negative control of the test above."""
    *_, norms = train(chain_around(inner, optax.identity()), 150)
    assert norms.max() > 1.1 * MAX_NORM


def test_schedule_free_around_the_noise():
    """Schedule-free averages the iterates; its own step is bounded behind it."""
    inner = optax.chain(noise(), optax.sgd(0.1), hto.truncate_update_norm(MAX_NORM))
    optimizer = optax.chain(
        optax.contrib.schedule_free(inner, learning_rate=0.1, b1=0.9),
        hto.truncate_update_norm(MAX_NORM),
    )
    params, state, losses, norms = train(optimizer, 150)
    assert norms.max() <= MAX_NORM * (1 + 4 * EPS)
    averaged = optax.contrib.schedule_free_eval_params(state[0], params)
    assert loss_fn(averaged) < 0.1 * losses[0]


def test_sam_around_the_noise():
    outer = optax.chain(noise(), optax.sgd(0.1), hto.truncate_update_norm(MAX_NORM))
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.02))
    optimizer = optax.contrib.sam(outer, ascent, sync_period=2, opaque_mode=True)
    params, _, losses, norms = train(
        optimizer, 100, grad_fn=jax.grad(lambda params, _: loss_fn(params))
    )
    assert norms.max() <= MAX_NORM * (1 + 4 * EPS)
    assert loss_fn(params) < 0.1 * losses[0]


# The order of the optimiser, against the written formula


def reference_steps(grads, noises, *, rate, bound, momentum, nesterov, decay, start):
    """noise -> weight decay -> momentum -> -rate -> phi_b, in NumPy float64."""
    x, m = start.copy(), np.zeros_like(start)
    path = []
    for grad, z in zip(grads, noises, strict=True):
        g = grad + z + decay * x
        m = momentum * m + g
        step = momentum * m + g if nesterov else m
        u = -rate * step
        size = np.linalg.norm(u)
        x = x + min(1.0, bound / size) * u
        path.append(x.copy())
    return np.stack(path)


@pytest.mark.parametrize(
    ("momentum", "nesterov", "weight_decay"),
    [(None, False, None), (0.9, False, 0.1), (0.9, True, None), (0.5, True, 0.1)],
)
@pytest.mark.parametrize("direction", ["elementwise", "isotropic"])
def test_the_optimiser_follows_its_formula(direction, momentum, nesterov, weight_decay):
    num_steps, rate, bound, scale = 6, 0.5, 0.4, 0.3
    with jax.enable_x64(True):
        start = jnp.asarray([1.0, -2.0, 0.5])
        grads = jnp.asarray(np.random.default_rng(0).normal(size=(num_steps, 3)))
        optimizer = hto.truncated_heavy_tailed_sgd(
            *(rate, bound, TAIL, scale),
            key=5,
            direction=direction,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
        )
        alone = hto.add_heavy_tailed_noise(TAIL, scale, key=5, direction=direction)

        @jax.jit
        def run(start, grads):
            def step(carry, grad):
                x, state, noise_state = carry
                updates, state = optimizer.update(grad, state, x)
                z, noise_state = alone.update(jnp.zeros(3), noise_state)
                x = optax.apply_updates(x, updates)
                return (x, state, noise_state), (x, z)

            carry = (start, optimizer.init(start), alone.init(start))
            return jax.lax.scan(step, carry, grads)[1]

        got, noises = (np.asarray(x) for x in run(start, grads))
        assert got.dtype == np.float64
    expected = reference_steps(
        *(np.asarray(grads), noises),
        rate=rate,
        bound=bound,
        momentum=momentum or 0.0,
        nesterov=nesterov,
        decay=weight_decay or 0.0,
        start=np.asarray([1.0, -2.0, 0.5]),
    )
    # Some steps were truncated and some were not: both branches are compared.
    steps = np.linalg.norm(np.diff(expected, axis=0), axis=1)
    assert steps.max() > 0.99 * bound
    np.testing.assert_allclose(got, expected, rtol=0, atol=64 * np.finfo(float).eps)


# vmap


POINT = jnp.linspace(0.5, 1.0, 4)


def first_update(alpha, scale, max_norm, key):
    optimizer = hto.truncated_heavy_tailed_sgd(
        0.1, max_norm, hto.tails.alpha_stable(alpha), scale, key=key
    )
    updates, state = optimizer.update(POINT, optimizer.init(POINT), POINT)
    return updates, optax.tree.get(state, "update_norm")


def test_vmap_over_keys_and_hyperparameters():
    """Row i of a vmapped run is the run with the i-th settings."""
    alphas = jnp.asarray([0.8, 1.0, 1.5, 2.0])
    scales = jnp.asarray([0.1, 0.0, 1.0, 0.5])
    bounds = jnp.asarray([0.05, 1e3, 0.5, 0.01])
    keys = jax.random.split(jax.random.key(2), 4)
    rows, norms = jax.jit(jax.vmap(first_update))(alphas, scales, bounds, keys)
    one = jax.jit(first_update)
    for i in range(4):
        alone, norm = one(alphas[i], scales[i], bounds[i], keys[i])
        size = float(np.abs(alone).max())
        np.testing.assert_allclose(rows[i], alone, rtol=0, atol=8 * EPS * size)
        np.testing.assert_allclose(norms[i], norm, rtol=8 * EPS)
        size = np.linalg.norm(np.asarray(rows[i], np.float64))
        assert size <= float(bounds[i]) * (1 + 4 * EPS)
    # Without noise, and within the bound, it is plain SGD.
    np.testing.assert_array_equal(rows[1], -0.1 * POINT)


def test_vmap_over_legacy_keys_gives_different_noise():
    keys = jax.random.split(jax.random.PRNGKey(0), 5)

    @jax.jit
    @jax.vmap
    def first_noise(key):
        transformation = hto.add_heavy_tailed_noise(TAIL, 1.0, key=key)
        return transformation.update(POINT, transformation.init(POINT))[0]

    assert len({row.tobytes() for row in np.asarray(first_noise(keys))}) == 5


# grad through the update


def test_gradient_through_the_truncation_is_that_of_phi():
    """d phi_b(u) . v in closed form, inside, outside, and at zero."""

    def phi(u):
        truncation = hto.truncate_update_norm(1.0)
        return truncation.update(u, truncation.init(u))[0]

    jacobian = jax.jit(jax.jacobian(phi))
    inside = jnp.asarray([0.3, -0.4])
    np.testing.assert_array_equal(jacobian(inside), np.eye(2))
    np.testing.assert_array_equal(jacobian(jnp.zeros(2)), np.eye(2))
    outside = np.asarray([3.0, -4.0])
    unit = outside / 5.0
    expected = (np.eye(2) - np.outer(unit, unit)) / 5.0
    np.testing.assert_allclose(
        jacobian(jnp.asarray(outside, jnp.float32)), expected, rtol=0, atol=4 * EPS
    )
    huge = jnp.asarray([3e30, -4e30], jnp.float32)
    np.testing.assert_allclose(
        jacobian(huge) * 1e30, expected, rtol=0, atol=16 * EPS
    )  # fmt: skip


def test_gradients_with_respect_to_hyperparameters():
    """Meta-learning: through five steps, against finite differences in float64."""

    def final_loss(settings):
        scale, max_norm, rate = settings
        optimizer = hto.truncated_heavy_tailed_sgd(
            rate, max_norm, TAIL, scale, key=0, momentum=0.5
        )

        def step(carry, _):
            x, state = carry
            updates, state = optimizer.update(2.0 * x, state, x)
            return (optax.apply_updates(x, updates), state), None

        x = jnp.asarray([1.0, -1.0])
        (x, _), _ = jax.lax.scan(step, (x, optimizer.init(x)), length=5)
        return jnp.sum(x**2)

    with jax.enable_x64(True):
        settings = jnp.asarray([0.05, 0.4, 0.2])
        value = jax.jit(final_loss)
        gradient = np.asarray(jax.jit(jax.grad(final_loss))(settings))
        # Central differences of step h: an error of h^2 and of eps / h.
        h = 1e-5
        numeric = [
            float(value(settings + h * e) - value(settings - h * e)) / (2 * h)
            for e in jnp.eye(3)
        ]
    assert (np.abs(gradient) > 1e-3).all()
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-8)


def test_gradient_through_the_noise_is_the_identity():
    """Noise is added: the gradient of the sum with respect to the update is one."""

    def total(updates):
        transformation = noise()
        new, _ = transformation.update(updates, transformation.init(updates))
        return sum(jnp.sum(x) for x in jax.tree.leaves(new))

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(PARAMS)):
        np.testing.assert_array_equal(leaf, np.ones_like(leaf))


# Flax


def optimizer_for_flax():
    return hto.truncated_heavy_tailed_sgd(0.1, MAX_NORM, TAIL, 0.02, key=0)


def test_linen_train_state():
    model = flax.linen.Dense(2)
    params = model.init(jax.random.key(0), INPUTS)["params"]
    state = train_state.TrainState.create(
        apply_fn=model.apply, params=params, tx=optimizer_for_flax()
    )

    @jax.jit
    def step(state):
        def loss_of(params):
            outputs = state.apply_fn({"params": params}, INPUTS)
            return jnp.mean((outputs - INPUTS @ WEIGHTS) ** 2)

        loss, grads = jax.value_and_grad(loss_of)(state.params)
        return state.apply_gradients(grads=grads), loss

    losses = []
    for _ in range(60):
        state, loss = step(state)
        losses.append(float(loss))
    assert losses[-1] < 0.1 * losses[0]
    assert optax.tree.get(state.opt_state, "noise_count") == 60


def test_nnx_optimizer():
    model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optimizer_for_flax(), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        def loss_of(model):
            return jnp.mean((model(INPUTS) - INPUTS @ WEIGHTS) ** 2)

        loss, grads = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]
    counts = optax.tree.get_all_with_path(optimizer.opt_state, "noise_count")
    assert [int(value[...]) for _, value in counts] == [60]


def test_nnx_optimizer_passes_the_gradient_noise_on():
    model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    transformation = optax.chain(
        hto.inflate_gradient_noise(hto.tails.pareto(1.4), 1.0, key=0), optax.sgd(0.1)
    )
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
    before = np.asarray(model.bias[...])

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda model: jnp.sum(model(INPUTS)))(model)
        zeros = jax.tree.map(jnp.zeros_like, grads)
        optimizer.update(model, zeros, gradient_noise=grads)

    step(model, optimizer)
    # The gradient of the sum with respect to the bias is 32; |Z| is at least one.
    assert (np.asarray(model.bias[...]) <= before - 0.1 * 32).all()
