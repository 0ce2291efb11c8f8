"""Tracking: exactly the largest sizes of all noise vectors, in constant memory."""

import functools
import re

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


EACH_MEASURE = pytest.mark.parametrize("measure", ["norm", "coordinates", "projection"])


@EACH_MEASURE
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_is_not_finite_is_left_out_and_counted(measure, bad):
    key = 0 if measure == "projection" else None
    transformation = TI.track_tail_index(20, measure=measure, key=key)
    with_bad = {**NOISE, "w": NOISE["w"].at[7, 1, 1].set(bad)}
    state, _ = run(transformation, with_bad)
    assert state.tail_seen.tolist() == [STEPS - 1, STEPS, STEPS - 1]
    assert state.tail_non_finite.tolist() == [1, 0, 1]
    without = jax.tree.map(lambda x: jnp.delete(x, 7, axis=0), NOISE)
    expected, _ = run(transformation, without)
    assert expected.tail_non_finite.tolist() == [0, 0, 0]
    whole, _ = run(transformation)
    for field in ("tail_largest", "tail_log_mean"):
        got = np.asarray(getattr(state, field))
        # The whole tree and the leaf `w` without that vector, the leaf `b` with it.
        np.testing.assert_allclose(
            got[::2], getattr(expected, field)[::2], rtol=1e-6, atol=1e-6
        )
        np.testing.assert_array_equal(got[1], getattr(whole, field)[1])


@EACH_MEASURE
def test_differences_with_what_is_not_finite_are_left_out(measure):
    key = 0 if measure == "projection" else None
    transformation = TI.track_tail_index(
        5, source="differences", measure=measure, key=key
    )
    # Either of a pair, and both: infinity less itself is a NaN.
    bad = NOISE["b"].at[jnp.asarray([2, 9, 20, 21]), 0].set(jnp.inf)
    state, _ = run(transformation, {**NOISE, "b": bad}, updates="noise")
    assert state.tail_non_finite.tolist() == [3, 3, 0]
    pairs = jax.tree.map(lambda x: x.reshape(STEPS // 2, 2, *x.shape[1:]), NOISE)
    pairs = jax.tree.map(lambda x: jnp.delete(x, jnp.asarray([1, 4, 10]), 0), pairs)
    without = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), pairs)
    expected, _ = run(transformation, without, updates="noise")
    np.testing.assert_array_equal(state.tail_seen[:2], expected.tail_seen[:2])
    np.testing.assert_array_equal(state.tail_largest[:2], expected.tail_largest[:2])


def test_one_infinite_step_of_many_changes_the_estimate_by_one_draw():
    sizes = hto.tails.pareto(1.5).sample(jax.random.key(3), (2000,))
    params = {"w": jnp.zeros(())}
    tracker = TI.track_tail_index(100)

    def read(sizes):
        _, state = tracker.update(
            params, tracker.init(params), gradient_noise={"w": sizes}
        )
        return TI.tracked_tail_index(state, params), TI.assess_tracked(state, params)

    index, verdicts = read(sizes.at[1000].set(jnp.inf))
    expected = TI.hill(jnp.delete(sizes, 1000), 100)
    np.testing.assert_allclose(index["w"], expected, rtol=1e-6)
    assert expected.lower < 1.5 < expected.upper
    # Kept as the largest float, it would have made this of it.
    spoilt = TI.hill(sizes.at[1000].set(jnp.finfo(jnp.float32).max), 100)
    assert spoilt.estimate < 0.8
    assert re.findall(r"\d+", verdicts["w"].reasons[-1]) == ["2000", "1"]
    _, without = read(sizes)
    assert len(without["w"].reasons) == len(verdicts["w"].reasons) - 1


@EACH_MEASURE
@pytest.mark.parametrize("source", ["gradient_noise", "differences"])
def test_finite_noise_beyond_the_largest_float_counts_as_that(measure, source):
    key = 0 if measure == "projection" else None
    tracker = TI.track_tail_index(1, source=source, measure=measure, key=key)
    ones = {"w": jnp.asarray([1.0, -1.0, 1.0, 1.0])}
    largest = float(jnp.finfo(jnp.float32).max)

    def track(size):
        state = tracker.init(ones)
        for factor in (size, -size):
            noise = jax.tree.map(lambda x, factor=factor: factor * x, ones)
            _, state = tracker.update(noise, state, gradient_noise=noise)
        return state

    # Of opposite updates the entries of the difference are still in range.
    size = largest if source == "gradient_noise" else 0.5 * largest
    got, unit = track(size), track(1.0)
    assert got.tail_non_finite.tolist() == [0, 0]
    exact = size * np.asarray(unit.tail_largest, np.float64)
    np.testing.assert_allclose(got.tail_largest, np.minimum(exact, largest), rtol=1e-5)
    assert measure != "norm" or (exact[:, 0] > 1.1 * largest).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_differences_lose_no_digits_to_the_dtype_of_the_parameters(dtype):
    """Noise that is small beside the mean, in updates that are float32."""
    params = {"w": jnp.zeros(3, dtype)}
    updates = 1000.0 + hto.tails.student_t(2.0).sample(jax.random.key(4), (40, 3))
    tracker = TI.track_tail_index(5, source="differences")
    state = tracker.init(params)
    step = jax.jit(tracker.update)
    for one in updates:
        _, state = step({"w": one}, state)
    exact = np.asarray(updates, np.float64)
    sizes = np.linalg.norm(exact[1::2] - exact[::2], axis=1) / 2**0.5
    np.testing.assert_allclose(state.tail_largest[1], descending(sizes, 6), rtol=1e-6)
    # What bfloat16 would have left of it.
    rounded = np.asarray(updates.astype(jnp.bfloat16), np.float64)
    wrong = np.linalg.norm(exact[1::2] - rounded[::2], axis=1) / 2**0.5
    assert abs(descending(wrong, 6) / descending(sizes, 6) - 1).max() > 0.05


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


def test_when_the_largest_came():
    """The extremal index from the state is that of the whole series in its order."""
    steps, k = 600, 40
    series = np.abs(np.random.default_rng(0).standard_t(2.0, steps + 1)).astype("f4")
    series = np.maximum(series[1:], series[:-1])  # each large one comes twice
    noise = {"w": jnp.asarray(series)[:, None]}
    params, tracking = {"w": jnp.zeros(1)}, TI.track_tail_index(k)

    def step(state, one):
        return tracking.update(params, state, gradient_noise=one)[1], None

    one_by_one, _ = jax.lax.scan(step, tracking.init(params), noise)
    _, at_once = tracking.update(params, tracking.init(params), gradient_noise=noise)
    expected = TI.extremal_index(jnp.asarray(series), k)
    assert expected.estimate < 0.8 and expected.p_value < 0.01
    for state in (one_by_one, at_once):
        found = TI.tracked_extremal_index(state, params)["w"]
        for name in ("estimate", "lower", "p_value", "threshold"):
            got, wanted = getattr(found, name), getattr(expected, name)
            np.testing.assert_allclose(got, wanted, rtol=1e-4)
        reasons = TI.assess_tracked(state, params)["w"].reasons
        assert "plainly not independent" in reasons[-1]
    shuffled = {"w": jax.random.permutation(jax.random.key(1), noise["w"])}
    _, state = tracking.update(params, tracking.init(params), gradient_noise=shuffled)
    reasons = TI.assess_tracked(state, params)["w"].reasons
    assert "independent" not in reasons[-1]


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e12])
def test_noise_scale_is_that_of_two_batch_sizes(unit):
    """Half the difference of two halves, and their mean: batches of 16 and of 32."""
    steps = 300
    halves = 1.0 + jax.random.normal(jax.random.key(0), (steps, 2, 9))
    halves = unit * halves
    gradient, noise = halves.mean(1), 0.5 * (halves[:, 0] - halves[:, 1])
    params = {"w": jnp.zeros(9)}
    tracking = TI.track_tail_index(20, noise_scale=True)

    def step(state, one):
        gradient, noise = one
        update = tracking.update({"w": gradient}, state, gradient_noise={"w": noise})
        return update[1], None

    state, _ = jax.lax.scan(step, tracking.init(params), (gradient, noise))
    found = TI.tracked_noise_scale(state, params, batch_size=32)["w"]
    norms = np.linalg.norm(np.asarray(halves, float), axis=-1)
    expected = TI.gradient_noise_scale(
        np.sqrt(np.mean(norms**2, axis=1)),
        np.linalg.norm(np.asarray(gradient, float), axis=-1),
        small_batch_size=16,
        large_batch_size=32,
    )
    for name in ("noise_scale", "lower", "upper", "trace_standard_error"):
        got, wanted = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(got, wanted, rtol=1e-3)

    # The same from the two micro-batches around their mean, and one step that is NaN.
    around = halves - gradient[:, None]
    state = tracking.init(params)
    state, _ = jax.lax.scan(step, state, (gradient, around))
    again = TI.tracked_noise_scale(state, params, batch_size=32)["w"]
    np.testing.assert_allclose(again.noise_scale, found.noise_scale, rtol=1e-4)
    bad, _ = step(state, (gradient[0].at[0].set(jnp.nan), around[0]))
    np.testing.assert_array_equal(bad.tail_squares[1], state.tail_squares[1])
