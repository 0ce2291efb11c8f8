"""Tracking: exactly the largest sizes of all noise vectors, in constant memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import heavytail_optax as hto

TI = hto.tail_index
PARAMS = {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)}
STEPS = 60


def noise_of(key, shape=()):
    """Noise vectors of the structure of the parameters."""
    keys = jax.random.split(key, 2)
    tail = hto.tails.student_t(2.0)
    return {
        "w": tail.sample(keys[0], (*shape, 2, 3)),
        "b": tail.sample(keys[1], (*shape, 3)),
    }


NOISE = noise_of(jax.random.key(0), (STEPS,))


def run(transformation, noise=NOISE, updates=None):
    """The state after a scan over the noise."""

    @jax.jit
    def scanned(noise):
        def step(state, one):
            given = one if updates == "noise" else PARAMS
            new, state = transformation.update(given, state, PARAMS, gradient_noise=one)
            return state, new

        return jax.lax.scan(step, transformation.init(PARAMS), noise)

    return scanned(noise)


def flat(noise):
    """Row "all" and the leaves in the order of the tree, shape (steps, entries)."""
    b, w = (np.asarray(noise[name], np.float64) for name in ("b", "w"))
    b, w = b.reshape(len(b), -1), w.reshape(len(w), -1)
    return [np.concatenate([b, w], axis=1), b, w]


def descending(values, count):
    return -np.sort(-values.ravel())[:count]


def test_norms():
    transformation = TI.track_tail_index(20)
    state, updates = run(transformation)
    assert all((x == 0).all() for x in jax.tree.leaves(updates))
    assert state.tail_count == STEPS
    assert state.tail_seen.tolist() == [STEPS] * 3
    for row, values in enumerate(flat(NOISE)):
        norms = np.linalg.norm(values, axis=1)
        np.testing.assert_allclose(
            state.tail_largest[row], descending(norms, 21), rtol=1e-6
        )
        np.testing.assert_allclose(
            state.tail_log_mean[row], np.log(norms).mean(), rtol=1e-4, atol=1e-5
        )
    by_layer = TI.tracked_tail_index(state, PARAMS)
    assert list(by_layer) == ["all", "b", "w"]
    norms = np.linalg.norm(flat(NOISE)[1], axis=1)
    for k in (20, 5):
        expected = TI.hill(jnp.asarray(norms, jnp.float32), k)
        got = TI.tracked_tail_index(state, PARAMS, k)["b"]
        for x, y in zip(got, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4)


def test_coordinates():
    state, _ = run(TI.track_tail_index(20, measure="coordinates"))
    for row, values in enumerate(flat(NOISE)):
        largest = descending(np.abs(values), 21)
        np.testing.assert_array_equal(state.tail_largest[row], np.float32(largest))
        log_mean = np.log(np.abs(values)).mean()
        np.testing.assert_allclose(
            state.tail_log_mean[row], log_mean, rtol=1e-4, atol=1e-5
        )


def test_projection_is_along_one_unit_vector():
    along_axes = {
        "w": jnp.eye(9)[:, 3:].reshape(9, 2, 3),
        "b": jnp.eye(9)[:, :3],
    }
    transformation = TI.track_tail_index(8, measure="projection", key=0)
    state, _ = run(transformation, along_axes)
    # The squared coordinates of a unit vector, of all parameters and of each leaf.
    squares = np.asarray(state.tail_largest, np.float64) ** 2
    np.testing.assert_allclose(squares.sum(axis=1), [1.0, 1.0, 1.0], rtol=1e-5)
    other = TI.track_tail_index(8, measure="projection", key=1)
    assert (run(other, along_axes)[0].tail_largest != state.tail_largest).any()


def test_micro_batches_at_once():
    together = jax.tree.map(lambda x: x.reshape(12, 5, *x.shape[1:]), NOISE)
    for measure in ("norm", "coordinates"):
        one, _ = run(TI.track_tail_index(20, measure=measure))
        many, _ = run(TI.track_tail_index(20, measure=measure), together)
        assert many.tail_count == 12
        np.testing.assert_array_equal(many.tail_seen, one.tail_seen)
        np.testing.assert_allclose(many.tail_largest, one.tail_largest, rtol=1e-6)
        np.testing.assert_allclose(
            many.tail_log_mean, one.tail_log_mean, rtol=1e-4, atol=1e-5
        )


def test_differences_of_successive_updates():
    state, _ = run(TI.track_tail_index(20, source="differences"), updates="noise")
    assert state.tail_seen.tolist() == [STEPS // 2] * 3
    for row, values in enumerate(flat(NOISE)):
        # Of pairs that do not overlap.
        norms = np.linalg.norm(values[1::2] - values[::2], axis=1) / 2**0.5
        np.testing.assert_allclose(
            state.tail_largest[row], descending(norms, 21), rtol=1e-5
        )
    np.testing.assert_array_equal(state.tail_previous["w"], NOISE["w"][-1])


@pytest.mark.parametrize("measure", ["norm", "coordinates"])
def test_the_verdict_on_what_was_tracked(measure):
    noise = noise_of(jax.random.key(1), (600,))
    state, _ = run(TI.track_tail_index(150, measure=measure), noise)
    optimizer_state = (optax.EmptyState(), (state, ()))
    found = TI.assess_tracked(optimizer_state, PARAMS, 40)
    assert list(found) == ["all", "b", "w"]
    for values, assessment in zip(flat(noise), found.values(), strict=True):
        sizes = np.linalg.norm(values, axis=1)
        if measure == "coordinates":
            sizes = np.abs(values).ravel()
        assert assessment.k == 40
        expected = TI.assess_tail(jnp.asarray(sizes, jnp.float32), k=40)
        assert assessment.sentence == expected.sentence
        assert f" of {sizes.size} draws" in assessment.sentence


def test_the_verdict_before_there_are_enough():
    for number, k in ((0, 20), (12, 20), (12, None)):
        few = jax.tree.map(lambda x, n=number: x[:n], NOISE)
        state, _ = run(TI.track_tail_index(40), few)
        for assessment in TI.assess_tracked(state, PARAMS, k).values():
            assert assessment.verdict == "cannot tell"


def test_nothing_to_say_before_there_are_enough():
    few = jax.tree.map(lambda x: x[:20], NOISE)
    state, _ = run(TI.track_tail_index(20), few)
    index = TI.tracked_tail_index(state, PARAMS)
    assert all(jnp.isnan(each.estimate) for each in index.values())
    assert jnp.isfinite(TI.tracked_tail_index(state, PARAMS, 19)["w"].estimate)


@pytest.mark.parametrize("measure", ["norm", "coordinates", "projection"])
def test_nan_is_left_out_and_infinity_is_the_largest(measure):
    key = 0 if measure == "projection" else None
    transformation = TI.track_tail_index(3, measure=measure, key=key)
    noise = jax.tree.map(lambda x: x[:6], NOISE)
    noise["w"] = noise["w"].at[2, 0, 0].set(jnp.nan).at[4, 1, 1].set(jnp.inf)
    state, _ = run(transformation, noise)
    assert state.tail_seen.tolist() == [5, 6, 5]
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(state))
    assert state.tail_largest[0, 0] > 1e37
    assert state.tail_largest[1, 0] < 1e3


def test_a_norm_neither_overflows_nor_underflows():
    for size in (1e-30, 1e30):
        noise = jax.tree.map(lambda x, size=size: x[:5] * jnp.float32(size), NOISE)
        state, _ = run(TI.track_tail_index(4), noise)
        norms = np.linalg.norm(flat(noise)[0], axis=1)
        np.testing.assert_allclose(
            state.tail_largest[0], descending(norms, 5), rtol=1e-5
        )


@pytest.mark.parametrize("source", ["gradient_noise", "differences"])
def test_the_state_of_other_settings_or_parameters_is_refused(source):
    """Fewer sizes kept than asked for would make a wrong estimate, and no error."""
    params = {"w": jnp.ones(3), "b": jnp.ones(2)}
    track = functools.partial(hto.tail_index.track_tail_index, source=source)
    tracker = track(5)
    other = "differences" if source == "gradient_noise" else "gradient_noise"
    for state in (
        track(4).init(params),
        track(6).init(params),
        track(5, source=other).init(params),
        tracker.init({"w": jnp.ones(3)}),
    ):
        with pytest.raises(ValueError, match="`state`.*of `track_tail_index.update`"):
            tracker.update(params, state, gradient_noise=params)
    tracker.update(params, tracker.init(params), gradient_noise=params)


def test_in_a_chain_and_under_vmap():
    optimizer = optax.chain(TI.track_tail_index(4), optax.sgd(0.1))

    def final(noise):
        def step(state, one):
            return optimizer.update(one, state, PARAMS, gradient_noise=one)[1], None

        return jax.lax.scan(step, optimizer.init(PARAMS), noise)[0]

    pairs = jax.tree.map(lambda x: x.reshape(2, 30, *x.shape[1:]), NOISE)
    both = jax.jit(jax.vmap(final))(pairs)
    for seed in range(2):
        alone = final(jax.tree.map(lambda x, i=seed: x[i], pairs))
        state = jax.tree.map(lambda x, i=seed: x[i], both)
        for got, expected in zip(state[0][:4], alone[0][:4], strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        assert list(TI.tracked_tail_index(state, PARAMS)) == ["all", "b", "w"]


BAD_NOISE = {
    "none": None,
    "another_name": {"w": NOISE["w"][0], "c": NOISE["b"][0]},
    "another_shape": {"w": NOISE["w"][0].T, "b": NOISE["b"][0]},
    "two_sizes": {"w": NOISE["w"][:2], "b": NOISE["b"][:3]},
    "one_with_an_axis_more": {"w": NOISE["w"][:2], "b": NOISE["b"][0]},
    "none_at_all": {"w": NOISE["w"][:0], "b": NOISE["b"][:0]},
}


@pytest.mark.parametrize("name", BAD_NOISE)
def test_bad_noise_is_refused(name):
    transformation = TI.track_tail_index(4)
    message = "`gradient_noise` argument of `track_tail_index.update` must be"
    with pytest.raises(ValueError, match=message):
        transformation.update(
            PARAMS, transformation.init(PARAMS), gradient_noise=BAD_NOISE[name]
        )
