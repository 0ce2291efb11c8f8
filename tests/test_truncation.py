import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import heavytail_optax as hto

DTYPES = (jnp.float16, jnp.bfloat16, jnp.float32)


@jax.jit
def truncate(updates, max_norm):
    """phi_b, compiled once for each structure: the bound is traced."""
    transformation = hto.truncate_update_norm(max_norm)
    return transformation.update(updates, transformation.init(updates))


def wide(x):
    """Extended precision, from any dtype."""
    return np.asarray(jnp.asarray(x)).astype(np.float64).astype(np.longdouble)


def exact_norm(tree):
    return np.sqrt(sum(np.sum(wide(x) ** 2) for x in jax.tree.leaves(tree)))


def exact_truncation(tree, bound):
    factor = min(
        np.longdouble(1.0), bound / max(exact_norm(tree), np.longdouble(1e-99))
    )
    return jax.tree.map(lambda x: wide(x) * factor, tree)


def check(tree, bound, optimizer=None):
    """Compares phi_b of a tree with extended precision, entry by entry."""
    if optimizer is None:
        got, _ = truncate(tree, bound)
    else:
        got, _ = optimizer.update(tree, optimizer.init(tree))
    expected = exact_truncation(tree, np.longdouble(bound))
    for before, after, right in zip(
        *map(jax.tree.leaves, (tree, got, expected)), strict=True
    ):
        assert after.dtype == before.dtype and after.shape == before.shape
        info = jnp.finfo(after.dtype)
        error = np.abs(wide(after) - right)
        tolerance = 4 * max(float(info.eps), 2e-7 if info.bits < 64 else 0.0)
        # Denormals are flushed, or rounded coarsely, and so is what is nothing beside
        # the norm.
        smallest = float(info.tiny) + 1e-24 * min(bound, float(exact_norm(tree)))
        assert np.all(error <= tolerance * np.abs(right) + smallest)
    return got


def tree_of(magnitude, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "a": jnp.asarray(magnitude * rng.uniform(0.3, 1, (7, 5)), dtype),
        "b": jnp.asarray(magnitude * rng.uniform(-1, 1, 11), dtype),
        "c": jnp.asarray(magnitude * rng.uniform(-1, 1), dtype),
    }


@pytest.mark.parametrize("bound", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_magnitude(dtype, bound):
    largest = 6e4 if dtype == jnp.float16 else 3e38
    for exponent in range(-40, 39):
        if 10.0**exponent < largest:
            check(tree_of(10.0**exponent, dtype), bound)


def test_every_magnitude_in_double_precision():
    with jax.enable_x64(True):
        for exponent in range(-300, 301, 20):
            for bound in (1e-3, 1.0, 1e4):
                check(tree_of(10.0**exponent, np.float64), bound)


def test_optax_fails_the_same_check():
    # Negative control: `optax.clip_by_global_norm` gives zeros.
    clip = optax.clip_by_global_norm(1.0)
    check(tree_of(1e5, jnp.float32), 1.0, clip)
    for tree in (tree_of(1e25, jnp.float32), {"a": jnp.full((9,), 300.0, jnp.float16)}):
        check(tree, 1.0)
        with pytest.raises(AssertionError):
            check(tree, 1.0, clip)


def test_magnitudes_and_dtypes_mixed():
    check({"a": jnp.asarray([1e-30, 1e30, 1.0]), "b": jnp.asarray([3e30])}, 1e20)
    check({"a": jnp.float16([300.0, 2.0]), "b": jnp.float32([1e-3, 5e2])}, 1.0)
    check({"a": jnp.bfloat16([1e30, 2.0]), "b": jnp.float16([6e4, 5e2])}, 1e30)
    with jax.enable_x64(True):
        mixed = {"a": jnp.float32([1e30, 2.0]), "b": jnp.asarray([1e200, 5e2])}
        got = check(mixed, 2.5)
        assert exact_norm(got) == pytest.approx(2.5, rel=1e-6)


@pytest.mark.parametrize("magnitude", [1e-3, 1e30])
def test_a_million_entries(magnitude):
    got, _ = truncate(jnp.full((10**6,), magnitude, jnp.float32), 0.5)
    np.testing.assert_allclose(wide(got).astype(float), 0.5e-3, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_within_the_bound_nothing_changes_bit_by_bit(dtype):
    info = jnp.finfo(dtype)
    bits = np.uint16 if info.bits == 16 else np.uint32
    denormals = np.arange(1, 50).astype(bits)
    values = jax.lax.bitcast_convert_type(jnp.asarray(denormals), dtype)
    for x in (values, -values, jnp.asarray([0.0, -0.0, 0.3, info.tiny], dtype)):
        got, state = truncate({"w": x}, 1.0)
        as_bits = [
            np.asarray(jax.lax.bitcast_convert_type(y, bits)) for y in (x, got["w"])
        ]
        np.testing.assert_array_equal(*as_bits)
        assert state.num_truncated == 0


def test_zero_stays_zero():
    got, state = truncate({"w": jnp.zeros(5)}, 1.0)
    assert np.all(got["w"] == 0.0)
    assert state.update_norm == 0.0 and state.num_truncated == 0


def test_exactly_at_the_bound():
    got, state = truncate(jnp.asarray([3.0, 4.0]), 5.0)
    np.testing.assert_array_equal(got, [3.0, 4.0])
    assert state.num_truncated == 0
    assert truncate(jnp.asarray([3.0, 4.0]), 4.999)[1].num_truncated == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_point_along_their_limit(dtype):
    x = jnp.asarray([jnp.inf, 1.0, -jnp.inf, jnp.finfo(dtype).max, 0.0], dtype)
    got, state = truncate(x, 2.0)
    expected = 2.0 / np.sqrt(2.0) * np.asarray([1.0, 0.0, -1.0, 0.0, 0.0])
    np.testing.assert_allclose(
        np.asarray(got, float), expected, rtol=1e-2, atol=1e-5 * 2.0
    )
    assert state.num_truncated == 1
    assert np.isfinite(state.update_norm)


def test_nan_is_seen_everywhere_and_soon_forgotten():
    transformation = hto.truncate_update_norm(1.0)
    _, state = transformation.update(
        jnp.asarray([3.0, 4.0]), transformation.init(jnp.zeros(2))
    )
    tree = {"a": jnp.asarray([1.0, jnp.nan]), "b": jnp.asarray([jnp.inf, 1.0])}
    for bad in (tree, {"a": tree["a"], "b": jnp.asarray([1.0, 2.0])}):
        got, after = transformation.update(bad, state)
        assert all(np.all(np.isnan(x)) for x in jax.tree.leaves(got))
        assert np.isnan(after.update_norm)
        assert after.num_truncated == 1 and after.truncation_count == 2
        _, later = transformation.update({"a": jnp.asarray([3.0, 4.0])}, after)
        assert later.update_norm == 5.0 and later.num_truncated == 2


def test_infinite_bound_truncates_nothing():
    x = jnp.asarray([1e38, -3.0, 3e38])
    got, state = truncate(x, jnp.inf)
    np.testing.assert_array_equal(got, x)
    assert state.num_truncated == 0
    got, _ = truncate(jnp.asarray([jnp.inf, 1.0]), jnp.inf)
    np.testing.assert_array_equal(got, [jnp.inf, 1.0])


def test_traced_bound_that_is_negative_gives_nan():
    for bound in (-1.0, -jnp.inf, jnp.nan):
        for x in ([1.0, 2.0], [0.0, 0.0], [jnp.inf, 1.0]):
            got, state = truncate(jnp.asarray(x), bound)
            assert np.all(np.isnan(got))
            assert state.num_truncated == 0 and np.isfinite(state.update_norm)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "x",
    [
        [3.0, -4.0],
        [6e4, 1e-7],
        [0.0, -0.0],
        [np.inf, 1.0],
        [-np.inf, np.inf],
        [1e38, -3e38],
    ],
)
def test_a_bound_of_zero_is_no_update(x, dtype):
    """As a learning rate of zero is; an update of zero needs no truncation."""
    x = jnp.asarray(x, jnp.float32).astype(dtype)
    got, state = truncate({"x": x, "y": jnp.zeros(3)}, 0.0)
    assert got["x"].dtype == dtype
    assert all(np.all(np.asarray(y, float) == 0.0) for y in got.values())
    assert np.isfinite(state.update_norm) and state.truncation_count == 1
    assert state.num_truncated == np.any(np.asarray(x, float) != 0.0)


def test_a_bound_of_zero_leaves_nan_to_be_seen():
    got, state = truncate({"a": jnp.asarray([jnp.nan, 1.0]), "b": jnp.ones(2)}, 0.0)
    assert all(np.all(np.isnan(x)) for x in got.values())
    assert state.num_truncated == 0 and np.isnan(state.update_norm)


SCHEDULES = {
    "cosine_to_zero": optax.cosine_decay_schedule(0.25, 10),
    "warm_up_from_zero": optax.warmup_cosine_decay_schedule(0.0, 0.25, 3, 10),
    "linear_to_zero": optax.linear_schedule(0.25, 0.0, 10),
    "switched_off": optax.join_schedules(
        [optax.constant_schedule(0.25), optax.constant_schedule(0.0)], [5]
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_training_goes_through_a_bound_of_zero(schedule):
    """Every step has the norm that the schedule says, and is counted unless it is zero."""
    optimizer = optax.chain(optax.sgd(1.0), hto.truncate_update_norm(schedule))
    params = jnp.asarray([300.0, 400.0])

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(params / 500.0, state, params)
        return optax.apply_updates(params, updates), updates, state

    state = optimizer.init(params)
    for number in range(13):
        params, updates, state = step(params, state)
        expected = np.float64(schedule(number))
        np.testing.assert_allclose(exact_norm(updates), expected, rtol=1e-5, atol=1e-9)
        assert optax.tree.get(state, "num_truncated") == number + 1
    assert np.all(np.isfinite(params))


def test_complex_leaves():
    x = {"z": jnp.asarray([3.0 + 4.0j, -5.0j]) * 1e25, "w": jnp.asarray([1e25])}
    got, state = truncate(x, 2.0)
    norm = np.sqrt(25.0 + 25.0 + 1.0)
    expected = 2.0 / norm * np.asarray([3.0 + 4.0j, -5.0j])
    np.testing.assert_allclose(got["z"], expected, rtol=1e-6)
    np.testing.assert_allclose(got["w"], [2.0 / norm], rtol=1e-6)
    np.testing.assert_allclose(state.update_norm, norm * 1e25, rtol=1e-6)
    small = {"z": jnp.asarray([0.1 + 0.2j]), "w": jnp.asarray([0.3])}
    np.testing.assert_array_equal(truncate(small, 2.0)[0]["z"], small["z"])


def test_state_with_a_schedule():
    bounds = jnp.asarray([10.0, 1.0, 10.0, 4.0])
    transformation = hto.truncate_update_norm(lambda step: bounds[step])
    x = jnp.asarray([3.0, 4.0])
    state = transformation.init(x)
    norms, counts = [], []
    for step in range(4):
        got, state = transformation.update((step + 1) * x, state)
        norms.append(float(jnp.linalg.norm(got)))
        counts.append(int(state.num_truncated))
        assert state.truncation_count == step + 1
        np.testing.assert_allclose(state.update_norm, 5.0 * (step + 1), rtol=1e-6)
    np.testing.assert_allclose(norms, [5.0, 1.0, 10.0, 4.0], rtol=1e-6)
    assert counts == [0, 1, 2, 3]
    assert optax.tree.get(state, "num_truncated") == 3


finite_vectors = hypothesis.extra.numpy.arrays(
    np.float32,
    6,
    elements=st.floats(-(2.0**127), 2.0**127, width=32, allow_subnormal=False),
)
bounds = st.floats(2.0**-20, 2.0**20, width=32)


@hypothesis.settings(max_examples=200)
@hypothesis.given(finite_vectors, bounds)
def test_norm_and_direction(x, bound):
    got, state = truncate(x, bound)
    norm = exact_norm(x)
    assert exact_norm(got) <= bound * (1.0 + 1e-6)
    if exact_norm(x) > 1e-36:
        np.testing.assert_allclose(
            float(exact_norm(got)), float(min(bound, norm)), rtol=1e-6
        )
    right = exact_truncation(x, np.longdouble(bound))
    assert np.all(np.abs(wide(got) - right) <= 1e-6 * np.abs(right) + 1e-24 * bound)
    assert (state.num_truncated == 1) == np.any(wide(got) != wide(x))


@hypothesis.settings(max_examples=200)
@hypothesis.given(finite_vectors, bounds)
def test_twice_is_once(x, bound):
    once, _ = truncate(x, bound)
    twice, _ = truncate(once, bound)
    np.testing.assert_allclose(twice, once, rtol=1e-6, atol=1.2e-38)


@hypothesis.settings(max_examples=200)
@hypothesis.given(finite_vectors, bounds, st.integers(1, 60))
def test_scaling_by_powers_of_two(x, bound, power):
    """phi_b(cx) is c phi_{b/c}(x); beyond the bound, where x is long, phi_b(x)."""
    small = x * np.float32(2.0**-60)
    scaled, _ = truncate(small * np.float32(2.0**power), bound)
    unscaled, _ = truncate(small, bound * 2.0**-power)
    np.testing.assert_allclose(
        scaled, np.asarray(unscaled) * 2.0**power, rtol=1e-6, atol=1e-20 * bound
    )


@hypothesis.settings(max_examples=50)
@hypothesis.given(finite_vectors, bounds, st.permutations(range(6)))
def test_order_does_not_matter(x, bound, order):
    got, _ = truncate(x[np.asarray(order)], bound)
    expected = np.asarray(truncate(x, bound)[0])[np.asarray(order)]
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1.2e-38)


@jax.jit
def jacobian(x, bound):
    return jax.jacobian(lambda x: truncate(x, bound)[0])(x)


@pytest.mark.parametrize("magnitude", [1e-30, 1e-10, 0.1, 10.0, 1e10, 1e18, 1e25, 1e37])
def test_jacobian(magnitude):
    """`b/|x| (I - x x^T / |x|^2)` beyond the bound, the identity within."""
    direction = np.asarray([0.3, -0.5, 0.2, 0.7])
    x = jnp.asarray(magnitude * direction, jnp.float32)
    got = np.asarray(jacobian(x, 1.0)).astype(float)
    norm = np.linalg.norm(direction)
    unit = direction / norm
    expected = np.eye(4)
    if magnitude * norm > 1.0:
        expected = (np.eye(4) - np.outer(unit, unit)) / (magnitude * norm)
    assert np.all(np.isfinite(got))
    np.testing.assert_allclose(
        got, expected, rtol=1e-5, atol=1e-6 * min(1.0, 1.0 / magnitude) + 1.2e-38
    )


def test_no_nan_gradient():
    vectors = ([0.0, 0.0], [1e-40, 0.0], [1e-38, 1e38], [3e38, 3e38], [0.0, 1e25])
    for x in vectors:
        assert np.all(np.isfinite(jacobian(jnp.asarray(x), 1.0))), x
    # Negative control: Optax's gradient at zero.
    clip = optax.clip_by_global_norm(1.0)
    at_zero = jax.jacobian(lambda x: clip.update(x, clip.init(x))[0])(jnp.zeros(2))
    assert np.any(np.isnan(at_zero))


def test_no_nan_gradient_at_a_bound_of_zero():
    """Of phi_0, which is zero throughout."""
    for x in ([0.0, 0.0], [3.0, 4.0], [1e-40, 0.0], [3e38, 3e38], [0.0, 1e25]):
        got = np.asarray(jacobian(jnp.asarray(x), 0.0))
        if x[1] != 0.0:
            np.testing.assert_array_equal(got, 0.0)
        assert np.all(np.isfinite(got)), x


def test_gradient_with_respect_to_the_bound():
    x = jnp.asarray([3.0, 4.0])
    at_zero = jax.jacobian(lambda bound: truncate(x, bound)[0])(0.0)
    np.testing.assert_allclose(at_zero, [0.6, 0.8], rtol=1e-6)
    got = jax.jacobian(lambda bound: truncate(x, bound)[0])(2.0)
    np.testing.assert_allclose(got, [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(
        jax.jacobian(lambda bound: truncate(x, bound)[0])(7.0), 0.0
    )
