"""`summary`: the scalars of our states, whatever optimiser they are in."""

import functools

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from transformations import TRANSFORMATIONS

import heavytail_optax as hto

PARAMS = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
TRUNCATION = ("truncation_count", "update_norm", "num_truncated", "max_norm")


def truncation(max_norm=1.0):
    return hto.truncate_update_norm(max_norm)


def state_after(optimizer, *updates):
    """The state after these updates."""
    state = optimizer.init(PARAMS)
    for update in updates:
        _, state = optimizer.update(update, state, PARAMS)
    return state


def numbers(scalars):
    return {name: np.asarray(value).tolist() for name, value in scalars.items()}


@pytest.mark.parametrize("case", TRANSFORMATIONS, ids=lambda case: case.name)
def test_every_scalar_of_a_state_is_there(case):
    transformation = case.make()
    state = transformation.init(PARAMS)
    _, state = case.update(transformation, PARAMS, state, PARAMS)
    got = hto.summary(state)
    scalars = {
        name: optax.tree.get(state, name)
        for name in case.fields
        if name != "trace" and jnp.ndim(optax.tree.get(state, name)) == 0
    }
    assert scalars
    for name, value in scalars.items():
        assert got[name].dtype == value.dtype
        assert got[name] == value
    assert {value.shape for value in got.values()} == {()}
    assert not any(name.endswith("key") for name in got)


def test_states_in_a_wrapped_optimiser_are_found():
    wrapped = hto.inflate_preconditioned_noise(
        optax.chain(optax.sgd(0.1), hto.truncate_update_norm(0.25)),
        hto.tails.pareto(1.4),
        1.0,
        key=0,
    )
    chain = optax.chain(wrapped, hto.truncate_update_norm(0.5))
    state = chain.init(PARAMS)
    _, state = chain.update(PARAMS, state, PARAMS, gradient_noise=PARAMS)
    got = hto.summary(state)
    assert got["precondition_count"] == 1 and got["precondition_draw"] >= 1.0
    assert [got[f"max_norm_{number}"] for number in (1, 2)] == [0.25, 0.5]
    assert not {"optimizer_state", "precondition_key"} & set(got)


EXPECTED = {
    "truncation_count": 2,
    "update_norm": 10.0,
    "num_truncated": 1,
    "max_norm": 1.0,
}
TWO_UPDATES = (
    jax.tree.map(lambda x: 0.1 * x, PARAMS),
    jax.tree.map(lambda x: 2 * x, PARAMS),
)


def partitioned():
    return optax.partition(
        {"cut": truncation(), "left": optax.identity()}, {"a": "cut", "b": "cut"}
    )


WRAPPERS = {
    "alone": truncation,
    "chain": lambda: optax.chain(optax.identity(), truncation()),
    "named_chain": lambda: optax.named_chain(("cut", truncation())),
    "inject_hyperparams": lambda: optax.inject_hyperparams(hto.truncate_update_norm)(
        max_norm=1.0
    ),
    "multi_steps": lambda: optax.MultiSteps(truncation(), every_k_schedule=1),
    "apply_if_finite": lambda: optax.apply_if_finite(truncation(), 3),
    "masked": lambda: optax.masked(truncation(), {"a": True, "b": True}),
    "partition": partitioned,
    "conditionally": lambda: optax.conditionally_transform(
        truncation(), lambda step, **_: step >= 0
    ),
    "nested": lambda: optax.MultiSteps(
        optax.chain(optax.trace(0.0), optax.apply_if_finite(partitioned(), 3)), 1
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_it_is_found_in_every_wrapper(wrapper):
    state = state_after(WRAPPERS[wrapper](), *TWO_UPDATES)
    assert numbers(hto.summary(state)) == pytest.approx(EXPECTED)


def chain():
    noise = hto.add_heavy_tailed_noise(hto.tails.gaussian(), 1e-6, key=0)
    return optax.chain(noise, optax.sgd(1.0, momentum=0.5), truncation())


CHAIN_NAMES = {"noise_count", *TRUNCATION}


def test_in_flax_nnx():
    """`opt_state` holds variables, and the state of the whole is a dictionary."""
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, chain(), wrt=nnx.Param)
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    optimizer.update(model, grads)
    expected = numbers(hto.summary(optimizer.opt_state))
    assert set(expected) == CHAIN_NAMES
    assert expected["num_truncated"] == expected["noise_count"] == 1
    assert expected["update_norm"] == pytest.approx(3.0**0.5, rel=1e-4)
    assert numbers(hto.summary(optimizer)) == expected
    assert numbers(hto.summary(nnx.state(optimizer))) == expected
    assert numbers(nnx.jit(hto.summary)(optimizer)) == expected
    graph, state = nnx.split(optimizer)
    assert numbers(jax.jit(hto.summary)(state)) == expected
    assert all(type(x) is not nnx.Param for x in hto.summary(optimizer).values())
    del graph


def test_in_a_train_state():
    state = TrainState.create(apply_fn=lambda x: x, params=PARAMS, tx=chain())
    state = state.apply_gradients(grads=PARAMS)
    got = numbers(hto.summary(state))
    assert set(got) == CHAIN_NAMES
    assert got["update_norm"] == pytest.approx(5.0, rel=1e-4)
    assert numbers(hto.summary(state.opt_state)) == got


def test_in_dictionaries_as_of_a_checkpoint():
    state = state_after(chain(), PARAMS)
    assert numbers(hto.summary(flax.serialization.to_state_dict(state))) == numbers(
        hto.summary(state)
    )
    # Fields of ours among others are not a state of ours.
    assert hto.summary({"noise_count": 1, "noise_key": 2, "other": 3}) == {}
    assert hto.summary({"num_truncated": jnp.zeros(())}) == {}


def test_under_jit_and_scan():
    optimizer = chain()

    @jax.jit
    def history(state):
        def step(state, scale):
            update = jax.tree.map(lambda x: scale * x, PARAMS)
            _, state = optimizer.update(update, state, PARAMS)
            return state, hto.summary(state)

        return jax.lax.scan(step, state, jnp.array([0.1, 1.0, 0.0]))

    final, rows = history(optimizer.init(PARAMS))
    np.testing.assert_array_equal(rows["noise_count"], [1, 2, 3])
    # The update is s_t + s_(t-1) / 2 + ... times a vector of norm 5.
    expected = [0.5, 5.25, 2.625]
    np.testing.assert_allclose(rows["update_norm"], expected, rtol=1e-4)
    np.testing.assert_array_equal(rows["num_truncated"], [0, 1, 2])
    assert numbers(hto.summary(final)) == {
        name: row[-1].tolist() for name, row in rows.items()
    }


def test_under_vmap_and_of_a_batch_of_states():
    tracker = hto.tail_index.track_tail_index(3, source="differences")
    optimizer = optax.chain(tracker, truncation())

    def final(scale):
        state = optimizer.init(PARAMS)
        for t in range(8):
            update = jax.tree.map(lambda x, t=t: scale**t * x, PARAMS)
            _, state = optimizer.update(update, state, PARAMS)
        return state

    scales = jnp.array([0.5, 1.5])
    states = jax.jit(jax.vmap(final))(scales)
    summary = jax.jit(hto.summary)
    got, vmapped = summary(states), jax.vmap(summary)(states)
    singly = [summary(jax.tree.map(lambda x, i=i: x[i], states)) for i in (0, 1)]
    assert set(got) == set(vmapped) == set(singly[0])
    for name, value in got.items():
        expected = np.stack([each[name] for each in singly])
        np.testing.assert_allclose(value, expected, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(vmapped[name], expected, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(got["update_norm"], 5.0 * scales**7, rtol=1e-6)
    assert (got["tail_seen"] == 4).all()
    assert bool(jnp.isfinite(got["tail_index"]).all())


def test_names_are_numbered_if_a_transformation_occurs_several_times():
    optimizer = optax.chain(
        *(truncation(4.0), optax.scale(0.1)),
        optax.inject_hyperparams(hto.truncate_update_norm)(max_norm=0.3),
        hto.add_heavy_tailed_noise(hto.tails.gaussian(), 0.0, key=0),
        optax.MultiSteps(truncation(0.2), 1).gradient_transformation(),
    )
    got = numbers(hto.summary(state_after(optimizer, PARAMS)))
    names = {f"{name}_{number}" for name in TRUNCATION for number in (1, 2, 3)}
    assert set(got) == {"noise_count", *names}
    norms = [got[f"update_norm_{number}"] for number in (1, 2, 3)]
    assert norms == pytest.approx([5.0, 0.4, 0.3])


def test_names_of_a_partition_are_in_the_order_of_its_labels():
    optimizer = optax.partition(
        {"second": truncation(9.0), "first": truncation(1.0)},
        {"a": "second", "b": "first"},
    )
    got = numbers(hto.summary(state_after(optimizer, PARAMS)))
    assert (got["update_norm_1"], got["num_truncated_1"]) == (4.0, 1)
    assert (got["update_norm_2"], got["num_truncated_2"]) == (3.0, 0)


def test_of_the_tail_index_against_numpy():
    """The largest size and the mean logarithm in float64, and Hill's estimate."""
    k = 20
    tracker = hto.tail_index.track_tail_index(k)
    sizes = hto.tails.pareto(1.5).sample(jax.random.key(0), (200,))

    def step(state, size):
        noise = {"a": jnp.array([0.6, 0.0]) * size, "b": jnp.array([0.8]) * size}
        return tracker.update(PARAMS, state, gradient_noise=noise)[1], None

    state, _ = jax.lax.scan(step, tracker.init(PARAMS), sizes)
    _, state = tracker.update(
        PARAMS, state, gradient_noise=PARAMS | {"b": jnp.array([jnp.nan])}
    )
    got = jax.jit(hto.summary)((optax.EmptyState(), state))
    logs = np.log(np.sort(np.asarray(sizes, np.float64))[::-1])
    np.testing.assert_allclose(got["tail_largest"], np.exp(logs[0]), rtol=1e-5)
    np.testing.assert_allclose(got["tail_log_mean"], logs.mean(), rtol=1e-5)
    # The tracked ones are enough to correct Hill's estimate for its bias.
    whole = hto.tail_index.hill(sizes, k)
    hill = 1.0 / np.mean(logs[:k] - logs[k])
    np.testing.assert_allclose(whole.estimate, hill, rtol=1e-4)
    np.testing.assert_allclose(got["tail_index"], whole.corrected_estimate, rtol=1e-4)
    assert got["tail_index_lower"] < got["tail_index"] < got["tail_index_upper"]
    counts = ("tail_count", "tail_seen", "tail_non_finite")
    assert [int(got[name]) for name in counts] == [201, 200, 1]


def test_no_tail_index_before_more_than_k_sizes():
    state = hto.tail_index.track_tail_index(5).init(PARAMS)
    assert np.isnan(hto.summary(state)["tail_index"])


@pytest.mark.parametrize(
    "make", [optax.identity, functools.partial(optax.adamw, 0.1)], ids=["none", "adamw"]
)
def test_of_a_state_with_nothing_of_ours(make):
    """So that one script can log any optimiser."""
    assert hto.summary(make().init(PARAMS)) == {}


@pytest.mark.parametrize("wrong", [optax.sgd(0.1), optax.MultiSteps(optax.sgd(0.1), 2)])
def test_an_optimiser_is_not_its_state(wrong):
    with pytest.raises(TypeError, match="`state` argument of `summary`"):
        hto.summary(wrong)


def test_it_stays_readable_when_a_later_step_donates_the_state():
    optimizer = truncation()
    step = jax.jit(optimizer.update, donate_argnums=1)
    _, state = step(PARAMS, optimizer.init(PARAMS))
    kept = hto.summary(state)
    step(PARAMS, state)
    assert state.num_truncated.is_deleted()
    assert numbers(kept) == {
        "truncation_count": 1,
        "update_norm": 5.0,
        "num_truncated": 1,
        "max_norm": 1.0,
    }


def test_bounds_by_group_have_the_names_of_their_groups():
    bounds = {"a": 1.0, "b": [hto.adaptive_max_norm(initial=2.0), 9.0]}
    truncation = hto.truncate_update_norm(bounds)
    updates = {"a": jnp.array([3.0]), "b": [jnp.array([4.0]), jnp.array([5.0])]}
    _, state = truncation.update(updates, truncation.init(updates))
    expected = {
        "truncation_count": 1,
        "update_norm/a": 3.0,
        "update_norm/b/0": 4.0,
        "update_norm/b/1": 5.0,
        "num_truncated/a": 1,
        "num_truncated/b/0": 1,
        "num_truncated/b/1": 0,
        "max_norm/a": 1.0,
        "max_norm/b/0": 2.0 * np.exp(0.3),
        "max_norm/b/1": 9.0,
    }
    for given in (state, state._asdict()):
        assert numbers(hto.summary(given)) == pytest.approx(expected)
