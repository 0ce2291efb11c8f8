"""Where truncation stands in a chain: each claim of docs/sharp_edges.md, with a number."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import heavytail_optax as hto

B = 0.01
PARAMS = {"hidden": jnp.eye(4), "other": jnp.ones((4, 4))}
KEYS = jax.random.split(jax.random.key(0), 40)
GRADIENTS = [
    jax.tree.map(lambda x, own=key: jax.random.normal(own, x.shape), PARAMS)
    for key in KEYS
]
OPTIMIZERS = {
    "adam": lambda: optax.adam(0.1),
    "adamw": lambda: optax.adamw(0.1, weight_decay=0.5),
    "muon": lambda: optax.contrib.muon(0.1, weight_decay=0.5),
}


def updates_of(optimizer, gradients, params=PARAMS):
    """The updates, and the state after them, at parameters that stay."""
    state, found = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        found.append(updates)
    return found, state


def assert_close(got, wanted, rtol):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol), got, wanted
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_behind_the_optimiser_it_bounds_the_step(name):
    alone, _ = updates_of(OPTIMIZERS[name](), GRADIENTS[:3])
    assert min(map(optax.tree.norm, alone)) > 2 * B
    chain = optax.chain(OPTIMIZERS[name](), hto.truncate_update_norm(B))
    for updates in updates_of(chain, GRADIENTS[:3])[0]:
        np.testing.assert_allclose(optax.tree.norm(updates), B, rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_before_an_optimiser_without_scale_the_number_means_nothing(name):
    """All gradients are longer than either bound: the steps are the same."""
    steps = [
        updates_of(
            optax.chain(hto.truncate_update_norm(bound), OPTIMIZERS[name]()),
            GRADIENTS[:5],
        )[0]
        for bound in (2.0, 0.2)
    ]
    assert min(map(optax.tree.norm, GRADIENTS[:5])) > 2.0
    assert_close(*steps, rtol=1e-4)
    assert optax.tree.norm(steps[0][-1]) > 10 * B


def test_clipping_before_muon_lets_one_tensor_freeze_another():
    """The one gradient is 1e13 times as long as the other, which is ordinary."""
    lopsided = GRADIENTS[0] | {"other": 1e13 * GRADIENTS[0]["other"]}
    muon = OPTIMIZERS["muon"]()
    norms = {}
    for name, optimizer in {
        "alone": muon,
        "clipped before": optax.chain(optax.clip_by_global_norm(1.0), muon),
        "truncated before": optax.chain(hto.truncate_update_norm(1.0), muon),
        "truncated behind": optax.chain(muon, hto.truncate_update_norm(0.1)),
    }.items():
        params = jax.tree.map(jnp.zeros_like, PARAMS)
        ((updates,), _) = updates_of(optimizer, [lopsided], params)
        norms[name] = float(jnp.linalg.norm(updates["hidden"]))
    assert norms["alone"] > 0.1
    assert norms["clipped before"] < norms["alone"] / 100
    assert norms["truncated before"] < norms["alone"] / 100
    # Both matrices have steps of about the same norm, so half of the square of b each.
    assert 0.05 < norms["truncated behind"] < 0.09


def test_weight_decay_behind_it_is_not_bounded():
    sgd, decay = optax.sgd(0.1), optax.add_decayed_weights(-0.1)
    truncation = hto.truncate_update_norm(B)
    (before,), _ = updates_of(optax.chain(decay, sgd, truncation), GRADIENTS[:1])
    (behind,), _ = updates_of(optax.chain(sgd, truncation, decay), GRADIENTS[:1])
    np.testing.assert_allclose(optax.tree.norm(before), B, rtol=1e-5)
    assert optax.tree.norm(behind) > 10 * B


def test_before_the_learning_rate_the_bound_has_its_schedule():
    rate = optax.cosine_decay_schedule(0.1, 20)
    before = optax.chain(
        hto.truncate_update_norm(2.0), optax.scale_by_learning_rate(rate)
    )
    behind = optax.chain(
        optax.scale_by_learning_rate(rate),
        hto.truncate_update_norm(lambda step: 2.0 * rate(step)),
    )
    (got, _), (wanted, _) = (updates_of(x, GRADIENTS[:20]) for x in (before, behind))
    assert_close(got, wanted, rtol=1e-5)


def test_a_fixed_bound_cuts_less_as_the_learning_rate_falls():
    rate = optax.cosine_decay_schedule(1.0, 4000)
    norms = hto.tails.pareto(1.4).sample(jax.random.key(1), (4000,))

    def cuts(bound):
        chain = optax.chain(
            optax.scale_by_schedule(rate), hto.truncate_update_norm(bound)
        )

        def step(state, norm):
            state = chain.update(norm[None], state)[1]
            return state, optax.tree.get(state, "num_truncated")

        numbers = jax.lax.scan(step, chain.init(jnp.zeros(1)), norms)[1]
        return np.diff(np.asarray(numbers)[[500, 1500, 2500, 3500]]) / 1000

    fixed = cuts(np.quantile(np.asarray(norms), 0.97))
    adaptive = cuts(hto.adaptive_max_norm(0.03))
    assert fixed[-1] < fixed[0] / 2
    assert ((0.02 < adaptive) & (adaptive < 0.04)).all()


def test_multi_steps():
    """Inside it sees what was accumulated; outside also the zeros in between."""
    bound = hto.adaptive_max_norm(0.1, initial=0.05)
    truncation, k = hto.truncate_update_norm(bound), 4

    def accumulated(inner):
        return optax.MultiSteps(inner, every_k_schedule=k).gradient_transformation()

    inside = accumulated(optax.chain(optax.sgd(0.1), truncation))
    outside = optax.chain(accumulated(optax.sgd(0.1)), truncation)
    (got, in_state), (wanted, out_state) = (
        updates_of(x, GRADIENTS) for x in (inside, outside)
    )
    assert_close(got, wanted, rtol=1e-6)
    for name, factor in {
        "num_truncated": 1,
        "max_norm": 1,
        "truncation_count": k,
    }.items():
        ours, other = (optax.tree.get(x, name) for x in (in_state, out_state))
        np.testing.assert_allclose(factor * ours, other, rtol=1e-6)
    assert optax.tree.get(in_state, "num_truncated") > 0


def test_outside_multi_steps_a_bound_is_frozen_k_times_as_early():
    k, freeze_after = 4, 5

    def bounds(factor):
        truncation = hto.truncate_update_norm(
            hto.adaptive_max_norm(0.1, initial=0.05, freeze_after=factor * freeze_after)
        )
        sum_of_k = optax.MultiSteps(optax.sgd(0.1), every_k_schedule=k)
        outside = optax.chain(sum_of_k.gradient_transformation(), truncation)
        inside = optax.MultiSteps(
            optax.chain(optax.sgd(0.1), truncation), every_k_schedule=k
        ).gradient_transformation()
        states = (updates_of(chain, GRADIENTS)[1] for chain in (inside, outside))
        return [float(optax.tree.get(state, "max_norm")) for state in states]

    inside, outside = bounds(1)
    assert abs(outside / inside - 1.0) > 0.1
    assert bounds(k)[1] == pytest.approx(inside, rel=1e-6)


def mixed_precision(optimizer, scale, num_steps=60):
    """Training in float16 with a dynamic loss scale, by hand."""
    inputs = jax.random.normal(jax.random.key(2), (num_steps, 8, 3))
    targets = inputs.sum(-1)

    def scaled_loss(params, scale, inputs, targets):
        half = params.astype(jnp.float16)
        residuals = inputs.astype(jnp.float16) @ half - targets.astype(jnp.float16)
        return (scale.astype(jnp.float16) * jnp.mean(residuals**2)).astype(jnp.float32)

    def step(carry, batch):
        params, state, scale = carry
        grads = jax.grad(scaled_loss)(params, scale, *batch) / scale
        is_finite = jnp.isfinite(grads).all()
        updates, new_state = optimizer.update(grads, state, params)
        moved = optax.apply_updates(params, updates)
        params, state = jax.tree.map(
            lambda new, old: jnp.where(is_finite, new, old),
            (moved, new_state),
            (params, state),
        )
        scale = jnp.where(is_finite, scale, scale / 2)
        return (params, state, scale), is_finite

    params = jnp.zeros(3)
    carry = params, optimizer.init(params), jnp.float32(scale)
    return jax.lax.scan(step, carry, (inputs, targets))


def test_loss_scaling():
    optimizer = optax.chain(
        optax.sgd(0.02), hto.truncate_update_norm(hto.adaptive_max_norm(0.1))
    )
    (params, state, _), finite = mixed_precision(optimizer, 8.0)
    assert finite.all()
    # 2^15 overflows float16 in the first steps, which are left out of all counts.
    (_, own, scale), finite = mixed_precision(optimizer, 2.0**15)
    num_finite = int(finite.sum())
    assert 30 < num_finite < 60
    assert scale < 2.0**15
    assert optax.tree.get(own, "truncation_count") == num_finite
    assert np.isfinite(optax.tree.get(own, "max_norm"))
    # The unit of the bound is that of the parameters, whatever the scale.
    (other, state_of_other, _), finite = mixed_precision(optimizer, 1.0)
    assert finite.all()
    np.testing.assert_allclose(params, other, atol=2e-2)
    ours, theirs = (optax.tree.get(x, "max_norm") for x in (state, state_of_other))
    np.testing.assert_allclose(ours, theirs, rtol=0.1)


def test_truncation_hides_an_overflow():
    """So the gradients must be looked at, as `optax.apply_if_finite` does around all."""
    overflow = GRADIENTS[0] | {"other": jnp.full((4, 4), jnp.inf)}
    chain = optax.chain(optax.sgd(0.1), hto.truncate_update_norm(B))
    (updates,), _ = updates_of(chain, [overflow])
    np.testing.assert_allclose(optax.tree.norm(updates), B, rtol=1e-5)
    (updates,), state = updates_of(optax.apply_if_finite(chain, 3), [overflow])
    assert optax.tree.norm(updates) == 0.0
    assert optax.tree.get(state, "truncation_count") == 0
