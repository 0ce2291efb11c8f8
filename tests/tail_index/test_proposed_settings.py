"""Proposed settings do what they say, by simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from sklearn.datasets import load_digits
from statistical_checks import FALSE_ALARM_RATE

import heavytail_optax as hto

propose = hto.tail_index.propose_settings
KEYS = jax.random.split(jax.random.key(0), 3)
ADAPTIVE = hto.adaptive_max_norm(0.03)
NOISE = jnp.exp(0.5 * jax.random.normal(KEYS[0], (500,)))
GRADIENT = jnp.exp(0.3 * jax.random.normal(KEYS[1], (500,)))


def simulated_norms(settings, learning_rate, num):
    """Norms of steps with the measured norms and inflated noise at right angles."""
    draws = np.asarray(hto.tails.pareto(settings.alpha).sample(KEYS[2], (num,)))
    index = np.arange(num) % 500
    noise = float(settings.scale) * draws * np.asarray(NOISE)[index]
    return learning_rate * np.hypot(np.asarray(GRADIENT)[index], noise), draws


def test_the_share_that_is_truncated_and_the_median_of_z():
    for alpha, share in ((1.2, 0.01), (1.4, 0.1), (1.8, 0.6)):
        settings = propose(
            NOISE, GRADIENT, 0.1, alpha=alpha, scale=0.5, truncated_share=share
        )
        norms, draws = simulated_norms(settings, 0.1, 100_000)
        above = int((norms > settings.max_norm).sum())
        assert scipy.stats.binomtest(above, 100_000, share).pvalue > FALSE_ALARM_RATE
        wrong = int((norms > 1.3 * settings.max_norm).sum())
        assert scipy.stats.binomtest(wrong, 100_000, share).pvalue < FALSE_ALARM_RATE
        median = float(np.median(settings.scale * draws))
        np.testing.assert_allclose(median, 0.5 * 2 ** (1 / alpha), rtol=0.02)


def test_closed_form_without_gradient():
    settings = propose(jnp.full(20, 3.0), jnp.zeros(20), 0.1, alpha=1.5)
    # P(eta c W |V| > b) = (eta c |V| / b)^alpha
    expected = 0.1 * float(settings.scale) * 3.0 * 0.03 ** (-1 / 1.5)
    np.testing.assert_allclose(settings.max_norm, expected, rtol=1e-4)
    np.testing.assert_allclose(settings.typical_noise_norm, 0.3, rtol=1e-6)
    assert settings.typical_update_norm == 0.0


def test_units():
    settings = propose(NOISE, GRADIENT, 0.1)
    larger = propose(10 * NOISE, 10 * GRADIENT, 0.2)
    np.testing.assert_allclose(larger.max_norm, 20 * settings.max_norm, rtol=1e-4)
    np.testing.assert_allclose(larger.scale, settings.scale, rtol=1e-6)
    assert settings.max_norm > settings.typical_update_norm


def recorded_run(num_steps, c=1.0, learning_rate=0.1):
    """Norms of a training run on digits, with the bound that sets itself."""
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16.0, jnp.float32), jnp.asarray(labels)
    tail, truncation = hto.tails.pareto(1.4), hto.truncate_update_norm(ADAPTIVE)
    keys = jax.random.split(jax.random.key(3), 2)
    params = {
        "in": 0.2 * jax.random.normal(keys[0], (64, 32)),
        "out": 0.2 * jax.random.normal(keys[1], (32, 10)),
    }

    def loss(params, chosen):
        logits = jax.nn.relu(images[chosen] @ params["in"]) @ params["out"]
        own = optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen])
        return own.mean()

    def step(carry, key):
        params, state = carry
        for_batch, for_factor = jax.random.split(key)
        chosen = jax.random.choice(for_batch, len(labels), (2, 25), replace=False)
        halves = jax.vmap(jax.grad(loss), (None, 0))(params, chosen)
        gradient = jax.tree.map(lambda x: (x[0] + x[1]) / 2, halves)
        noise = jax.tree.map(lambda x: (x[0] - x[1]) / 2, halves)
        z = c * tail.sample(for_factor)
        update = jax.tree.map(
            lambda g, v: -learning_rate * (g + z * v), gradient, noise
        )
        truncated, state = truncation.update(update, state)
        norms = map(optax.tree.norm, (noise, gradient))
        params = optax.apply_updates(params, truncated)
        return (params, state), (*norms, state.update_norm, state.max_norm)

    start = params, truncation.init(params)
    keys = jax.random.split(jax.random.key(4), num_steps)
    (params, _), found = jax.jit(lambda: jax.lax.scan(step, start, keys))()
    assert loss(params, jnp.arange(len(labels))) < 0.5  # it has learned
    return map(np.asarray, found)


def test_the_proposal_and_the_adaptive_bound_agree_on_a_training_run():
    noise, gradient, updates, bounds = (x[1000:] for x in recorded_run(3000))
    settings = propose(noise, gradient, 0.1, scale=1.0)
    proposed, adapted = float(settings.max_norm), np.exp(np.log(bounds).mean())
    # By one number, as many of the 2,000 updates are cut as by the other.
    shares = [(updates > b).mean() for b in (proposed, adapted)]
    assert all(0.02 < share < 0.045 for share in shares)
    assert 0.02 < (updates[1:] > bounds[:-1]).mean() < 0.04
    assert 0.75 < adapted / proposed < 1.33
    # Another share or scale is another bound.
    others = (
        propose(noise, gradient, 0.1, scale=2.0),
        propose(noise, gradient, 0.1, scale=1.0, truncated_share=0.1),
    )
    for other in others:
        assert not 0.75 < adapted / float(other.max_norm) < 1.33
