import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import heavytail_optax as hto


def norms_of(tail, num, key=0):
    return jnp.abs(tail.sample(jax.random.key(key), (num,)))


LAWS = {
    "pareto_0.8": norms_of(hto.tails.pareto(0.8), 40_000),
    "pareto_1.4": norms_of(hto.tails.pareto(1.4), 40_000),
    "pareto_3": norms_of(hto.tails.pareto(3.0), 40_000),
    "gaussian": norms_of(hto.tails.gaussian(), 40_000),
    "narrow": jnp.exp(0.05 * hto.tails.gaussian().sample(0, (40_000,))),
    "constant": jnp.full(40_000, 0.7),
}


@jax.jit(static_argnums=0)
def history(settings, norms):
    """The state after each update, for updates of one number."""
    truncation = hto.truncate_update_norm(settings)

    def step(state, norm):
        _, state = truncation.update(norm[None], state)
        return state, state

    return jax.lax.scan(step, truncation.init(jnp.zeros(1)), norms)[1]


def was_cut(states):
    return np.diff(states.num_truncated, prepend=0)


def model(settings, bound, count, norm):
    """By the rule, in Python's float64: the next bound, and whether the norm is cut."""
    share, rate = settings.truncated_share, settings.adaptation_rate
    warmup, search = settings.warmup_steps, settings.warmup_steps // 5
    is_cut = norm > bound
    is_frozen = settings.freeze_after is not None and count >= settings.freeze_after
    if not (norm > 0 and np.isfinite(norm)) or is_frozen:
        return bound, is_cut
    if np.isinf(bound):
        return 4.0 * norm, is_cut
    if count < search:
        ratio = min(max(4.0 * norm / bound, 0.25), 4.0)
        return bound * ratio ** (2.0 / (count + 2.0)), is_cut
    if count < warmup:
        rate *= max(1.0, 3.0 * (warmup - count) / (warmup - search))
    return bound * np.exp(rate * (1.0 if is_cut else -share / (1.0 - share))), is_cut


SETTINGS = st.builds(
    hto.adaptive_max_norm,
    st.sampled_from([0.01, 0.1, 0.5]),
    adaptation_rate=st.sampled_from([0.05, 0.3]),
    warmup_steps=st.sampled_from([0, 1, 20, 50]),
    freeze_after=st.sampled_from([None, 50, 60]),
    initial=st.sampled_from([None, 0.25]),
)


@hypothesis.given(
    SETTINGS,
    st.lists(
        st.floats(2**-10, 2**10, width=32) | st.sampled_from([0.0, np.inf, np.nan]),
        min_size=70,
        max_size=70,
    ),
)
def test_the_rule(settings, norms):
    norms = np.array(norms, np.float32)
    states = history(settings, jnp.asarray(norms))
    bounds = [np.inf if settings.initial is None else settings.initial]
    bounds = np.array([*bounds, *states.max_norm], np.float64)
    bounds[bounds > 3e38] = np.inf  # none yet
    for count, (norm, bound) in enumerate(zip(norms, bounds[:-1], strict=True)):
        if np.isclose(norm, bound, rtol=1e-4) and np.isfinite(norm):
            continue  # on either side, by rounding
        wanted, is_cut = model(settings, bound, count, float(norm))
        np.testing.assert_allclose(bounds[count + 1], wanted, rtol=1e-5)
        # An infinite norm is cut by any bound, one that is NaN by none.
        if np.isfinite(norm):
            assert was_cut(states)[count] == is_cut


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1, 0.5])
@pytest.mark.parametrize("law", LAWS)
def test_the_share_that_is_cut_in_the_long_run(law, share):
    states = history(hto.adaptive_max_norm(share), LAWS[law])
    measured = was_cut(states)[1000:].mean()
    assert 0.8 * share < measured < 1.2 * share


@pytest.mark.parametrize("law", LAWS)
def test_the_bound_is_near_the_quantile_after_the_warm_up(law):
    norms = LAWS[law].reshape(100, 400)[:, :100]
    settings = hto.adaptive_max_norm(0.03)
    states = jax.vmap(lambda own: history(settings, own))(norms)
    wanted = np.quantile(np.asarray(LAWS[law]), 0.97)
    ratio = np.asarray(states.max_norm[:, -1]) / wanted
    # A factor of two more or less cuts little more or less.
    assert 0.5 < np.median(ratio) < 2.0
    assert np.mean((ratio > 0.33) & (ratio < 3.0)) > 0.9


@pytest.mark.parametrize("law", LAWS)
def test_the_warm_up_cuts_jumps_and_leaves_ordinary_updates(law):
    norms = LAWS[law].reshape(400, 100)
    settings = hto.adaptive_max_norm(0.03)
    states = jax.vmap(lambda own: history(settings, own))(norms)
    cut = np.diff(states.num_truncated, axis=1, prepend=0) > 0
    norms = np.asarray(norms)
    # Nothing is known before the first update, and little soon after it.
    assert not cut[:, 0].any()
    is_smaller_half = norms <= np.median(norms)
    assert cut[is_smaller_half].mean() < 0.003
    assert not cut[:, 20:][is_smaller_half[:, 20:]].any()
    assert cut.mean() < 0.1
    is_jump = norms > 10.0 * np.quantile(norms, 0.97)
    assert cut[:, 1:][is_jump[:, 1:]].all()


@pytest.mark.parametrize("place", [1, 2, 5, 19, 20, 60, 99])
def test_a_jump_in_the_warm_up_is_cut_to_a_few_ordinary_norms(place):
    norms = jnp.exp(0.3 * hto.tails.gaussian().sample(3, (100,))).at[place].set(1e3)
    states = history(hto.adaptive_max_norm(0.03), norms)
    assert was_cut(states)[place] == 1
    assert states.max_norm[place - 1] < 8.0


@pytest.mark.parametrize("first", [0.01, 100.0])
def test_an_unusual_first_norm_is_soon_forgotten(first):
    norms = jnp.exp(0.3 * hto.tails.gaussian().sample(4, (100,))).at[0].set(first)
    states = history(hto.adaptive_max_norm(0.03), norms)
    assert (np.abs(np.log(states.max_norm[10:])) < np.log(12.0)).all()


def test_norms_that_grow_in_the_warm_up_are_not_cut():
    """As with momentum, or with a learning rate that is warmed up."""
    states = history(hto.adaptive_max_norm(0.03), jnp.arange(1.0, 21.0))
    assert states.num_truncated[-1] == 0


@pytest.mark.parametrize("factor", [100.0, 0.01])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.2, 0.9])
def test_the_bound_is_back_soon_after_a_jump(share, factor):
    norms = LAWS["pareto_1.4"][:4000]
    steps = int(20 / share)
    jumped = factor * LAWS["pareto_1.4"][4000 : 4000 + steps]
    states = history(hto.adaptive_max_norm(share), jnp.concatenate([norms, jumped]))
    wanted = factor * np.quantile(np.asarray(LAWS["pareto_1.4"]), 1 - share)
    after = np.asarray(states.max_norm[4000:])
    reached = after > wanted / 2 if factor > 1 else after < wanted * 2
    assert reached.any()
    before = np.asarray(states.max_norm[3999])
    assert not (before > wanted / 2 if factor > 1 else before < wanted * 2)


def test_an_update_does_not_decide_its_own_cut():
    norms = LAWS["pareto_1.4"][:500]
    settings = hto.adaptive_max_norm(0.1)
    states = history(settings, norms)
    larger = history(settings, norms.at[-1].set(1e6))
    assert states.max_norm[-2] == larger.max_norm[-2]
    truncation = hto.truncate_update_norm(settings)
    last = jax.tree.map(lambda x: x[-2], states)
    update, _ = truncation.update(jnp.array([1e6]), last)
    np.testing.assert_allclose(update, last.max_norm, rtol=1e-6)


def test_a_frozen_bound_stays():
    settings = hto.adaptive_max_norm(0.1, freeze_after=300)
    states = history(settings, LAWS["pareto_1.4"][:1000])
    bounds = np.asarray(states.max_norm)
    assert (bounds[300:] == bounds[299]).all()
    assert len(set(bounds[250:300])) > 10
    assert was_cut(states)[300:].any()


def test_it_follows_a_learning_rate():
    schedule = optax.cosine_decay_schedule(1.0, 10_000)
    rates = jax.vmap(schedule)(jnp.arange(10_000))
    norms = LAWS["pareto_1.4"][:10_000] * rates
    cut = was_cut(history(hto.adaptive_max_norm(0.03), norms))
    # All but the last 200 steps, in parts of a thousand.
    for start in range(500, 9_500, 1_000):
        assert 0.01 < cut[start : start + 1_000].mean() < 0.06


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_dtypes(dtype):
    truncation = hto.truncate_update_norm(hto.adaptive_max_norm(0.1))
    state = truncation.init(jnp.zeros(2, dtype))
    for norm in LAWS["gaussian"][:50]:
        update = jnp.array([0.6, 0.8], dtype) * norm.astype(dtype)
        update, state = truncation.update(update, state)
        assert update.dtype == dtype
        assert state.max_norm.dtype == jnp.float32
    assert 0.5 < state.max_norm < 5.0


def test_resumes_bit_for_bit():
    settings = hto.adaptive_max_norm(0.1)
    truncation = hto.truncate_update_norm(settings)
    norms = LAWS["pareto_1.4"][:300]

    def run(state, norms):
        def step(state, norm):
            update, state = truncation.update(norm[None], state)
            return state, update

        return jax.lax.scan(step, state, norms)

    start = truncation.init(jnp.zeros(1))
    whole, updates = run(start, norms)
    middle, first = run(start, norms[:120])
    saved = jax.tree.map(np.asarray, middle)
    end, second = run(jax.tree.map(jnp.asarray, saved), norms[120:])
    for ours, wanted in zip(end, whole, strict=True):
        np.testing.assert_array_equal(ours, wanted)
    np.testing.assert_array_equal(jnp.concatenate([first, second]), updates)


GROUPED = {"a": jnp.array([3.0, 4.0]), "b": [jnp.array([6.0]), jnp.array([8.0])]}


def test_groups_are_bounded_alone():
    bounds = {"a": 1.0, "b": lambda count: 2.0 + count}
    truncation = hto.truncate_update_norm(bounds)
    state = truncation.init(GROUPED)
    for count in range(2):
        updates, state = truncation.update(GROUPED, state)
        for name, bound in (("a", 1.0), ("b", 2.0 + count)):
            alone = hto.truncate_update_norm(bound)
            wanted, own = alone.update(GROUPED[name], alone.init(GROUPED[name]))
            jax.tree.map(np.testing.assert_array_equal, updates[name], wanted)
            assert state.update_norm[name] == own.update_norm
            assert state.max_norm[name] == bound
            assert state.num_truncated[name] == count + 1


def test_groups_with_no_bound_and_with_adaptive_ones():
    adaptive = hto.adaptive_max_norm(0.1, initial=1.0)
    truncation = hto.truncate_update_norm({"a": None, "b": [adaptive, 0.5]})
    state = truncation.init(GROUPED)
    updates, state = jax.jit(truncation.update)(GROUPED, state)
    np.testing.assert_array_equal(updates["a"], GROUPED["a"])
    np.testing.assert_allclose(updates["b"], [[1.0], [0.5]])
    assert state.num_truncated == {"a": 0, "b": [1, 1]}
    assert state.max_norm["a"] == np.finfo(np.float32).max
    np.testing.assert_allclose(state.max_norm["b"][0], np.exp(0.3), rtol=1e-6)


def test_bad_entries_of_one_group_leave_the_others_alone():
    updates = GROUPED | {"a": jnp.array([np.nan, 1.0])}
    truncation = hto.truncate_update_norm({"a": 1.0, "b": 5.0})
    ours, state = truncation.update(updates, truncation.init(updates))
    assert np.isnan(ours["a"]).all()
    np.testing.assert_allclose(ours["b"], [[3.0], [4.0]], rtol=1e-6)
    updates = GROUPED | {"a": jnp.array([1e30, 1e30])}  # the sum of squares overflows
    ours, state = truncation.update(updates, state)
    np.testing.assert_allclose(ours["a"], [np.sqrt(0.5)] * 2, rtol=1e-6)
    np.testing.assert_allclose(ours["b"], [[3.0], [4.0]], rtol=1e-6)


def test_a_prefix_must_fit_the_updates_and_the_state():
    truncation = hto.truncate_update_norm({"a": 1.0, "c": 1.0})
    with pytest.raises(ValueError, match="max_norm"):
        truncation.update(GROUPED, truncation.init(GROUPED))
    whole = hto.truncate_update_norm(1.0)
    with pytest.raises(TypeError, match="state"):
        hto.truncate_update_norm({"a": 1.0, "b": 1.0}).update(
            GROUPED, whole.init(GROUPED)
        )


def test_an_adaptive_bound_in_the_whole_optimiser():
    optimizer = hto.truncated_heavy_tailed_sgd(
        0.1, hto.adaptive_max_norm(0.05), hto.tails.symmetric_pareto(1.4), 0.1, key=0
    )

    def step(carry, _):
        x, state = carry
        updates, state = optimizer.update(x, state, x)
        return (optax.apply_updates(x, updates), state), None

    x = jnp.ones(10)
    (_, state), _ = jax.lax.scan(step, (x, optimizer.init(x)), length=5000)
    share = optax.tree.get(state, "num_truncated") / 5000
    assert 0.04 < share < 0.06


@pytest.mark.parametrize("num_before", [0, 1, 5, 50, 200])
def test_an_infinite_update_is_cut_at_any_time(num_before):
    truncation = hto.truncate_update_norm(hto.adaptive_max_norm(0.1))
    state = truncation.init(jnp.zeros(2))
    for norm in LAWS["gaussian"][:num_before]:
        _, state = truncation.update(norm * jnp.array([0.6, 0.8]), state)
    update, after = truncation.update(jnp.array([np.inf, 1.0]), state)
    assert np.isfinite(update).all()
    assert np.linalg.norm(update) <= 1.0001 * state.max_norm
    assert after.num_truncated == state.num_truncated + 1
    assert after.max_norm == state.max_norm


def test_updates_of_norm_zero_leave_it_unknown():
    norms = jnp.concatenate([jnp.zeros(150), LAWS["pareto_1.4"][:2000]])
    states = history(hto.adaptive_max_norm(0.1), norms)
    assert states.num_truncated[150] == 0
    assert states.max_norm[149] == np.finfo(np.float32).max
    assert states.max_norm[150] == 4.0 * norms[150]
    assert 0.08 < was_cut(states)[1000:].mean() < 0.12


def test_the_state_has_the_bound_that_is_applied_after_a_change_of_settings():
    update = jnp.array([3.0, 4.0])
    first = hto.truncate_update_norm(1.0)
    _, state = first.update(update, first.init(update))
    got, state = hto.truncate_update_norm(2.0).update(update, state)
    np.testing.assert_allclose(jnp.linalg.norm(got), 2.0, rtol=1e-6)
    assert state.max_norm == 2.0


def test_a_bound_that_was_found_can_be_fixed_and_set_free_again():
    """A state has no settings, so it goes on under a bound of another kind."""
    norms = LAWS["pareto_1.4"][:200]
    settings = hto.adaptive_max_norm(0.1)
    found = jax.tree.map(lambda x: x[-1], history(settings, norms))
    fixed = hto.truncate_update_norm(float(found.max_norm))
    update, state = fixed.update(jnp.array([1e3]), found)
    np.testing.assert_allclose(update, found.max_norm, rtol=1e-6)
    assert state.max_norm == found.max_norm
    assert state.truncation_count == 201
    assert state.num_truncated == found.num_truncated + 1
    _, state = hto.truncate_update_norm(settings).update(jnp.array([1e3]), state)
    wanted, _ = model(settings, float(found.max_norm), 201, 1e3)
    np.testing.assert_allclose(state.max_norm, wanted, rtol=1e-6)
    assert state.num_truncated == found.num_truncated + 2


def test_adaptive_bounds_of_groups_are_those_of_the_groups_alone():
    laws = list(LAWS.values())[:4]
    settings = [hto.adaptive_max_norm(share) for share in (0.1, 0.03, 0.1, 0.1)]
    truncation = hto.truncate_update_norm(settings)

    def step(state, norms):
        _, state = truncation.update([norm[None] for norm in norms], state)
        return state, state

    start = truncation.init([jnp.zeros(1)] * 4)
    norms = jnp.stack(laws, axis=1)[:300]
    together = jax.lax.scan(step, start, norms)[1]
    for group, own in enumerate(settings):
        alone = history(own, norms[:, group])
        np.testing.assert_allclose(together.max_norm[group], alone.max_norm, rtol=1e-5)
        np.testing.assert_array_equal(
            together.num_truncated[group], alone.num_truncated
        )


def test_a_state_may_come_back_with_other_containers():
    bounds = {"a": (1.0, 2.0), "b": 3.0}
    updates = {"a": (jnp.array([3.0]), jnp.array([4.0])), "b": jnp.array([5.0])}
    truncation = hto.truncate_update_norm(bounds)
    state = truncation.init(updates)
    lists = jax.tree.map(lambda x: x, state)._replace(
        **{
            name: {"a": list(getattr(state, name)["a"]), "b": getattr(state, name)["b"]}
            for name in ("update_norm", "num_truncated", "max_norm")
        }
    )
    got, after = truncation.update(updates, lists)
    wanted, _ = truncation.update(updates, state)
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    assert jax.tree.structure(after) == jax.tree.structure(lists)


def test_a_group_of_zeros_does_not_slow_the_others():
    """A sum of zero is taken as it is, without the branch for sums that underflow."""
    updates = {"frozen": jnp.zeros(3), "other": jnp.full(3, 1e-25)}
    truncation = hto.truncate_update_norm({"frozen": 1.0, "other": 1.0})
    _, state = truncation.update(updates, truncation.init(updates))
    # All below 1e-23: counted as zero, as the frozen ones are.
    assert state.update_norm == {"frozen": 0.0, "other": 0.0}
    alone = hto.truncate_update_norm(1.0)
    _, state = alone.update(updates["other"], alone.init(updates["other"]))
    np.testing.assert_allclose(state.update_norm, np.sqrt(3) * 1e-25, rtol=1e-5)


def test_it_is_read_beside_an_injected_bound():
    inject = optax.inject_hyperparams(hto.truncate_update_norm)
    state = inject(max_norm=2.0).init(jnp.zeros(2))
    assert state.inner_state.max_norm == state.hyperparams["max_norm"] == 2.0
