"""Equal largest draws: counted, told from rounding, and given no interval.

Draws of a continuous law have equal largest ones in about alpha / 2^20 of all samples, the
room that is left for rounding; of the samples looked at here together in less than 0.2 %.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import heavytail_optax as hto

TI = hto.tail_index
SIZE = 2000
NUM_CLIPPED = 20
LAWS = {
    "Student 1.5": hto.tails.student_t(1.5).sample,
    "Pareto 1.5": hto.tails.pareto(1.5).sample,
    "Gaussian": hto.tails.gaussian().sample,
}
ESTIMATORS = {
    "hill": TI.hill,
    "uncorrected": functools.partial(TI.hill, interval="uncorrected"),
    "extended": TI.extended_pareto,
    "kernel": TI.kernel_hill,
    "moment": TI.moment_estimator,
    "pickands": TI.pickands,
    "pareto": TI.generalised_pareto,
}


def clipped_at_the_largest(draws, num=NUM_CLIPPED):
    """Each row clipped at its `num` largest draw."""
    return np.minimum(draws, np.sort(draws, axis=-1)[..., -num, None])


def as_rounded(draws, ulps=3, seed=0):
    """Draws with rounding errors of so many units in the last place."""
    errors = np.random.default_rng(seed).integers(-ulps, ulps, draws.shape)
    return (draws * (1.0 + errors * np.finfo(np.float32).eps)).astype(np.float32)


def absolute(law, rows, seed=0, size=SIZE):
    return np.abs(LAWS[law](jax.random.key(seed), (rows, size)))


DRAWS = absolute("Student 1.5", 4)
CLIPPED = clipped_at_the_largest(DRAWS)


@pytest.mark.parametrize("law", LAWS)
def test_they_are_counted_where_draws_are_clipped_and_only_there(law):
    draws = absolute(law, 300, seed=1)
    assert (TI.num_tied(draws) == 1).all()
    clipped = clipped_at_the_largest(draws)
    for rows in (clipped, as_rounded(clipped)):
        np.testing.assert_array_equal(TI.num_tied(rows), NUM_CLIPPED)
    # What is rounded more coarsely than a millionth is another number.
    assert (TI.num_tied(as_rounded(clipped, 40)) < NUM_CLIPPED).all()


def test_clipped_norms_are_equal_up_to_rounding():
    vectors = 20.0 * jax.random.normal(jax.random.key(0), (60, 700))
    clip = optax.clip_by_global_norm(300.0)
    clipped = [clip.update(x, clip.init(x))[0] for x in vectors]
    norms = jnp.linalg.norm(jnp.stack(clipped), axis=-1)
    assert jnp.unique(norms).size > 1
    assert TI.num_tied(norms) == 60


def test_axes_signs_and_what_is_not_finite():
    cube = jnp.asarray(np.moveaxis(CLIPPED.reshape(2, 2, SIZE), -1, 1))
    np.testing.assert_array_equal(TI.num_tied(cube, axis=1), np.full((2, 2), 20))
    one = jnp.asarray(CLIPPED)
    assert TI.num_tied(jnp.minimum(one, 9.0), axis=None) == jnp.sum(one >= 9.0)
    assert (
        TI.num_tied(-jnp.maximum(one, 1.0)).tolist()
        == jnp.sum(one <= 1.0, axis=-1).tolist()
    )
    jitted = jax.jit(jax.vmap(TI.num_tied))(one)
    assert jitted.dtype == jnp.int32
    np.testing.assert_array_equal(jitted, 20)
    assert TI.num_tied(jnp.zeros(7)) == 7
    assert TI.num_tied(jnp.asarray([1.0, jnp.inf, 2.0, jnp.inf])) == 2
    assert TI.num_tied(jnp.asarray([1.0, jnp.nan, 1.0])) == 1
    with jax.enable_x64():
        # Norms that were computed in float32, and logged.
        wide = jnp.asarray(as_rounded(CLIPPED), jnp.float64)
        np.testing.assert_array_equal(TI.num_tied(wide), 20)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_of_equal_draws_there_is_no_index(name):
    for draws in (CLIPPED, as_rounded(CLIPPED), np.full((4, 60), 3.0, np.float32)):
        found = ESTIMATORS[name](jnp.asarray(draws), NUM_CLIPPED - 1)
        for field in ("estimate", "lower", "upper", "gamma", "gamma_standard_error"):
            assert np.isnan(getattr(found, field)).all(), field
        assert np.isnan(found.standard_error).all()
        if name != "pareto":
            assert np.isnan(found.corrected_estimate).all()
            assert not found.is_biased.any()
        # Pickands' looks at these alone, the others at the next, too.
        seen = 16 if name == "pickands" else NUM_CLIPPED
        np.testing.assert_array_equal(found.num_tied, seen)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_was_cut_off_leaves_no_interval(name):
    estimator = ESTIMATORS[name]
    k = 100 if name != "pickands" else 4 * (NUM_CLIPPED - 1)
    for rows in (CLIPPED, as_rounded(CLIPPED)):
        found = estimator(jnp.asarray(rows), k)
        np.testing.assert_array_equal(found.num_tied, NUM_CLIPPED)
        np.testing.assert_array_equal(found.lower, 0.0)
        np.testing.assert_array_equal(found.upper, np.inf)
        np.testing.assert_array_equal(found.standard_error, np.inf)
        np.testing.assert_array_equal(found.gamma_standard_error, np.inf)
        assert np.isfinite(found.gamma).all()
    # The same draws before they were clipped.
    found = estimator(jnp.asarray(DRAWS), k)
    np.testing.assert_array_equal(found.num_tied, 1)
    assert np.isfinite(found.lower).all() and (found.lower > 0.0).all()
    assert np.isfinite(found.gamma_standard_error).all()
    # A scale that was cut off has no error bar either.
    if name == "pareto":
        cut = estimator(jnp.asarray(CLIPPED), k)
        np.testing.assert_array_equal(cut.scale_standard_error, np.inf)
        assert np.isfinite(found.scale_standard_error).all()


def test_the_estimate_itself_is_the_formula():
    descending = -np.sort(-CLIPPED.astype(np.float64), axis=-1)
    for k in (NUM_CLIPPED + 5, 100):
        gamma = np.log(descending[:, :k] / descending[:, k : k + 1]).mean(axis=-1)
        np.testing.assert_allclose(TI.hill(CLIPPED, k).gamma, gamma, rtol=1e-4)


def test_pickands_does_not_look_at_the_very_largest():
    k = 4 * (NUM_CLIPPED + 1)
    for got, expected in zip(
        TI.pickands(CLIPPED, k)[:-1], TI.pickands(DRAWS, k)[:-1], strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_few_of_many_a_traced_k_and_a_batch_of_them_agree():
    draws = absolute("Pareto 1.5", 2, size=2**16)
    draws[0] = clipped_at_the_largest(draws[0], 40)
    for k in (30, 200):
        one = TI.hill(draws, k)
        other = jax.jit(TI.hill)(draws, jnp.asarray([k, k]))
        np.testing.assert_array_equal(one.num_tied, [min(40, k + 1), 1])
        for got, expected in zip(one, other, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4)
    mixed = TI.hill(draws, jnp.asarray([39, 39]))
    assert np.isnan(mixed.estimate).tolist() == [True, False]
    assert TI.hill(draws, jnp.asarray([40, 40])).upper[0] == np.inf


def test_the_path_is_that_of_hill():
    rows = CLIPPED[:2].copy()
    rows[1] = DRAWS[1]
    path = TI.hill_path(rows, 60)
    for k in (5, 19, 20, 60):
        index = TI.hill(rows, k)
        np.testing.assert_allclose(path.estimate[:, k - 1], index.estimate, rtol=1e-4)
        np.testing.assert_allclose(
            path.standard_error[:, k - 1], index.standard_error, rtol=1e-4
        )
    assert np.isnan(path.standard_error[0, :19]).all()


def test_rounded_draws_are_not_cut_off():
    """The farther out, the fewer are equal; and of doubled draws all are two."""
    rounded = jnp.asarray(np.round(40.0 * absolute("Gaussian", 1)[0]))
    doubled = jnp.repeat(jnp.asarray(DRAWS[0]), 2)
    equal = jnp.asarray([3.0] * 2 + [2.0] * 5 + [1.0] * 9)
    for draws, k, tied in ((rounded, 300, 1), (doubled, 200, 2), (equal, 10, 2)):
        found = TI.hill(draws, k)
        assert found.num_tied == tied
        assert found.standard_error < np.inf
    more = jnp.asarray([3.0] * 5 + [2.0] * 2 + [1.0 / n for n in range(1, 10)])
    assert TI.hill(more, 10).standard_error == np.inf


def test_draws_with_replacement_are_not_cut_off():
    """By the multiplicities 0.4 % of such samples look so; more than six of 300 hardly do."""
    rows = np.random.default_rng(0).choice(np.asarray(DRAWS[0]), (300, 2000))
    found = TI.hill(jnp.asarray(rows, jnp.float32), 100)
    assert np.mean(found.num_tied > 1) > 0.3
    assert np.sum(found.standard_error == np.inf) <= 6


def test_far_from_zero_float64_draws_are_not_equal():
    with jax.enable_x64(True):
        draws = jnp.asarray(np.random.default_rng(0).pareto(2.0, 3000))
        for function in (TI.pickands, TI.generalised_pareto):
            here, there = function(draws, 200), function(draws + 1e8, 200)
            np.testing.assert_allclose(there.gamma, here.gamma, rtol=1e-3)


@pytest.mark.parametrize("name", ["hill", "kernel", "moment", "pickands"])
def test_under_jit_and_vmap(name):
    rows = np.concatenate([CLIPPED[:2], DRAWS[:1]])
    k = 60
    one = jax.jit(jax.vmap(lambda row: ESTIMATORS[name](row, k)))(rows)
    np.testing.assert_array_equal(one.num_tied, [20, 20, 1])
    np.testing.assert_array_equal(one.standard_error == np.inf, [True, True, False])


def test_infinite_draws_are_not_cut_off():
    draws = jnp.asarray(DRAWS[0]).at[:2].set(jnp.inf)
    found = TI.hill(draws, 50)
    assert found.estimate == found.lower == found.upper == 0.0
    assert found.num_tied == 2


def test_derivatives_are_those_without_ties():
    draws = jnp.asarray(CLIPPED[0])

    def gamma(draws):
        return TI.hill(draws, 100).gamma

    slope = jax.grad(gamma)(draws)
    above = CLIPPED[0] > np.sort(CLIPPED[0])[-101]
    expected = np.where(above, 0.01 / CLIPPED[0], 0.0)
    np.testing.assert_allclose(slope[above], expected[above], rtol=1e-4)


def test_fits_to_what_was_cut_off_are_not_compared():
    rows = np.stack([CLIPPED[0], DRAWS[0], np.full(SIZE, 2.0, np.float32)])
    rows[2, 200:] = 1.0
    fits = TI.compare_fits(rows, 100, alternatives=("exponential", "lognormal"))
    for name in ("exponential", "lognormal"):
        for field in ("ratio", "normalised_ratio", "p_value"):
            is_nan = np.isnan(getattr(fits[name], field))
            assert is_nan.tolist() == [True, False, True]
        assert np.isnan(fits[name].first).tolist() == [False, False, True]


def test_tests_of_a_power_law_reject_what_was_cut_off():
    """At the 1 % level, with a tenth of the tail clipped; and say nothing inside."""
    k, cut = 400, clipped_at_the_largest(DRAWS, 100)
    goodness = TI.goodness_of_fit(cut, k, key=0, num_simulations=200)
    drift = TI.hill_drift(cut, k)
    assert (goodness.p_value < 0.01).all()
    assert (drift.p_value < 0.01).all() and (drift.z > 0).all()
    assert np.isnan(TI.hill_drift(cut, 396).outer_estimate).all()
    assert np.isnan(TI.hill_drift(cut, 99)[:-1]).all()
    inside = as_rounded(cut)
    assert np.isnan(TI.goodness_of_fit(inside, 99, key=0, num_simulations=9)).all()


def test_clipped_draws_are_not_stable():
    draws = hto.tails.alpha_stable(1.5).sample(jax.random.key(0), (10_000,))
    bound = jnp.sort(jnp.abs(draws))[-100]
    clipped = jnp.clip(draws, -bound, bound)
    found = TI.log_moment(clipped)
    assert (found.lower, found.upper) == (0.0, jnp.inf)
    assert found.standard_error == jnp.inf
    assert found.estimate > 1.65  # another index by now
    fit = TI.characteristic_function(clipped)
    assert (fit.lower, fit.upper, fit.standard_error) == (0.0, 2.0, jnp.inf)
    for found in (TI.log_moment(draws), TI.characteristic_function(draws)):
        assert found.lower < 1.5 < found.upper < 1.7


def tracked(sizes, k=200):
    tracking = TI.track_tail_index(k)
    params = {"w": jnp.zeros(())}
    noise = {"w": jnp.asarray(sizes)}
    return tracking.update(params, tracking.init(params), gradient_noise=noise)[1]


def test_a_tracker_of_clipped_noise():
    params = {"w": jnp.zeros(())}
    few, many = np.minimum(DRAWS[0], 18.0), np.minimum(DRAWS[0], 2.0)
    state = tracked(few)
    found = TI.tracked_tail_index(state, params)["w"]
    assert found.num_tied == np.sum(few == 18.0) > 10
    assert (found.lower, found.upper) == (0.0, jnp.inf)
    assessed = TI.assess_tracked(state, params)["w"]
    assert assessed.verdict == "power law up to an end"
    np.testing.assert_allclose(assessed.truncated.end, 18.0, rtol=1e-6)
    found = TI.tracked_tail_index(tracked(many), params)["w"]
    assert np.isnan(found.estimate) and np.isnan(found.upper)
    assert TI.tracked_tail_index(tracked(DRAWS[0]), params)["w"].upper < 3.0


def test_the_verdict_on_clipped_draws():
    (bound,) = np.unique(CLIPPED[0].max())
    for draws in (CLIPPED[0], as_rounded(CLIPPED[0])):
        found = TI.assess_tail(draws)
        assert found.verdict == "power law up to an end"
        np.testing.assert_allclose(found.truncated.end, bound, rtol=1e-5)
        reason = found.reasons[0]
        assert reason.startswith("20 of the largest draws are equal, at ")
        np.testing.assert_allclose(float(reason.split()[8][:-1]), bound, rtol=1e-5)
        assert found.index.upper == jnp.inf
    # Too few below the cap: nothing is said.
    few = np.minimum(CLIPPED[0], np.sort(CLIPPED[0])[-140])
    assert TI.assess_tail(few).verdict == "cannot tell"
    # A cap on three draws is one, too; two are equal by chance too often.
    assert TI.assess_tail(clipped_at_the_largest(DRAWS[0], 3)).index.upper == jnp.inf
    assert TI.assess_tail(clipped_at_the_largest(DRAWS[0], 2)).index.upper < jnp.inf
    # The negative control: none of the samples that were not clipped is called so.
    for draws in absolute("Student 1.5", 20, seed=2):
        assert not any("equal" in reason for reason in TI.assess_tail(draws).reasons)


def test_the_verdict_on_rounded_draws():
    """At a threshold of 50 steps nothing changes; at one of 4 they say nothing."""
    draws = absolute("Pareto 1.5", 10, seed=3)
    for row in draws:
        threshold = np.sort(row)[-155]
        fine = TI.assess_tail(np.round(50.0 / threshold * row))
        assert fine.verdict == TI.assess_tail(row).verdict
        coarse = TI.assess_tail(np.round(4.0 / threshold * row))
        assert coarse.verdict == "cannot tell"
        assert coarse.reasons[0].endswith(": they are rounded too coarsely.")
        number = int(coarse.reasons[0].split()[0])
        top = np.sort(np.round(4.0 / threshold * row))[-155:]
        assert number == np.unique(top, return_counts=True)[1].max()
