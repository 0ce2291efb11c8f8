"""The automatic choices of k against brute force, and against a published one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from public_samples import BLACKOUTS, SURNAMES
from statistical_checks import FALSE_ALARM_RATE, means_p_value

import heavytail_optax as hto
from heavytail_optax.tail_index._choice_by_bootstrap import Resample, resampled

TI = hto.tail_index


def distances(draws, candidates):
    """Kolmogorov-Smirnov distance of the k largest from their best power law."""
    descending = -np.sort(-np.asarray(draws, np.float64))
    found = []
    for k in candidates:
        ratio = descending[:k] / descending[k]
        model = ratio ** (-1.0 / np.log(ratio).mean())
        rank = np.arange(k)
        found.append(max(np.max(model - rank / k), np.max((rank + 1) / k - model)))
    return np.asarray(found)


def test_the_published_threshold_of_the_blackouts():
    """Clauset, Shalizi, Newman (2009), table 6.1: xmin 230 (thousand), 2.3, n_tail 59.

    Their exponent is that of the density, one more than ours, and counts the draw at the
    threshold: 1 + alpha (k + 1) / k.
    """
    choice = TI.choose_k_by_distance(
        jnp.asarray(BLACKOUTS), min_k=2, num_candidates=300
    )
    assert choice.index.threshold == 230_000.0
    assert choice.k == 58
    density = 1 + choice.index.estimate * 59 / 58
    assert f"{density:.1f}" == "2.3"
    # The package `powerlaw`, version 2.0.0, gives 2.27264 and 0.15.
    np.testing.assert_allclose(density, 2.27264, atol=1e-4)


def test_the_published_threshold_of_the_surnames():
    """The same table: xmin 111.92 (thousand), 2.5, n_tail 239.

    Of 2,753 draws there are 152 values: from the threshold on all draws count.
    """
    choice = TI.choose_k_by_distance(jnp.asarray(SURNAMES, jnp.float32), min_k=2)
    assert choice.index.threshold == 111_919.0
    assert choice.k == 238
    assert f"{1 + choice.index.estimate * 239 / 238:.1f}" == "2.5"
    # By hand: the largest distance at a step's lower or upper side, of all 239.
    tail = SURNAMES[:239]
    alpha = 1 / np.log(tail / tail[-1]).mean()
    values, counts = np.unique(tail, return_counts=True)
    upper = np.cumsum(counts) / 239
    model = 1 - (values / tail[-1]) ** -alpha
    apart = np.maximum(np.abs(model - upper), np.abs(model - upper + counts / 239))
    np.testing.assert_allclose(choice.criterion, apart.max(), rtol=1e-4)
    # The package `powerlaw`, version 2.0.0, looks at one side: 2,280 draws from 14,923.
    one_sided = []
    for size in (239, 2280):
        tail = SURNAMES[:size]
        model = 1 - (np.unique(tail) / tail[-1]) ** (
            -1 / np.log(tail / tail[-1]).mean()
        )
        below = np.searchsorted(np.sort(tail), np.unique(tail)) / size
        one_sided.append(np.max(np.abs(model - below)))
    assert one_sided[1] < one_sided[0]
    assert one_sided[1] < 338 / 2280  # the step at the threshold, which a law has not


def tied_distance(descending, k):
    """Of the draws from X_(k+1) on, all of them where it has equals."""
    is_tied = descending[k] == descending[k - 1]
    tail = descending[: k + is_tied]
    model = (tail / descending[k]) ** (-1.0 / np.log(tail / descending[k]).mean())
    first = np.asarray([np.sum(tail > x) for x in tail]) / tail.size
    last = np.asarray([np.sum(tail >= x) for x in tail]) / tail.size
    return max(np.max(model - first), np.max(last - model))


@pytest.mark.parametrize("num_points", [50, 500])
def test_tied_draws_against_brute_force(num_points):
    """Steps are seen whole even where few ranks are looked at."""
    draws = np.random.default_rng(1).pareto(1.2, (2, 500)) + 1.0
    draws = np.ceil(3.0 * draws)
    got = TI.choose_k_by_distance(
        jnp.asarray(draws, jnp.float32), num_candidates=500, num_points=num_points
    )
    for row in range(2):
        descending = -np.sort(-draws[row])
        ends = np.flatnonzero(np.append(descending[:-1] != descending[1:], True))
        ends = ends[ends >= 10]
        expected = np.asarray([tied_distance(descending, k) for k in ends])
        assert got.k[row] in ends
        slack = 1e-4 if num_points == 500 else 0.02
        place = np.flatnonzero(ends == int(got.k[row]))[0]
        assert expected[place] < expected.min() + slack
        np.testing.assert_allclose(got.criterion[row], expected[place], atol=slack)


CHOICES = {
    "bootstrap": functools.partial(TI.choose_k_by_bootstrap, key=0, num_resamples=20),
    "distance": functools.partial(TI.choose_k_by_distance, num_candidates=60),
}


@pytest.mark.parametrize("name", CHOICES)
def test_no_choice_parts_equal_draws(name):
    draws = jnp.abs(hto.tails.student_t(1.5).sample(jax.random.key(5), (6, 2000)))
    rounded = jnp.round(2.0 * draws)
    choice = CHOICES[name](rounded)
    descending = -np.sort(-np.asarray(rounded), axis=-1)
    for k in (np.asarray(choice.k), np.asarray(choice.interval_k)):
        at = np.take_along_axis(descending, k[:, None], axis=-1)
        behind = np.take_along_axis(descending, k[:, None] + 1, axis=-1)
        assert (at > behind).all()
    # And where max_k itself has equals behind it.
    few = CHOICES[name](rounded, max_k=300)
    k = np.asarray(few.k)
    assert (k <= 300).all()
    at = np.take_along_axis(descending, k[:, None], axis=-1)
    assert (at > np.take_along_axis(descending, k[:, None] + 1, axis=-1)).all()


@pytest.mark.parametrize("name", CHOICES)
def test_no_choice_is_within_the_clipped_draws(name):
    draws = jnp.abs(hto.tails.student_t(1.5).sample(jax.random.key(6), (6, 2000)))
    bounds = jnp.sort(draws, axis=-1)[:, -20:-19]
    noise = 1e-7 * jax.random.normal(jax.random.key(7), draws.shape)
    for clipped in (
        jnp.minimum(draws, bounds),
        jnp.minimum(draws, bounds) * (1 + noise),
    ):
        choice = CHOICES[name](clipped)
        np.testing.assert_array_equal(choice.index.num_tied, 20)
        assert (choice.k >= 20).all()
        assert jnp.isfinite(choice.criterion).all()
        # A cap leaves no interval; the draws before they were clipped have one.
        assert (choice.index.lower == 0.0).all()
        assert (choice.index.upper == jnp.inf).all()
    assert (CHOICES[name](draws).index.upper < 9.0).all()
    # Where all that may be chosen are equal, there is nothing to choose.
    most = CHOICES[name](jnp.minimum(draws, 1.0), max_k=50)
    assert jnp.isnan(most.index.estimate).all()


def test_distance_against_brute_force():
    draws = np.random.default_rng(0).standard_t(3, (2, 400))
    draws = np.abs(draws)
    got = TI.choose_k_by_distance(jnp.asarray(draws, jnp.float32), num_candidates=400)
    for row in range(2):
        expected = distances(draws[row], range(10, 400))
        np.testing.assert_allclose(got.criterion[row], expected.min(), atol=1e-4)
        assert expected[int(got.k[row]) - 10] < expected.min() + 1e-4


def test_the_interval_is_of_fewer_draws():
    draws = jnp.abs(hto.tails.alpha_stable(1.5).sample(jax.random.key(3), (3, 4000)))
    for choice in (
        TI.choose_k_by_distance(draws, confidence=0.8),
        TI.choose_k_by_bootstrap(draws, key=0, num_resamples=20, confidence=0.8),
    ):
        np.testing.assert_array_equal(
            choice.interval_k, np.round(np.asarray(choice.k) ** 0.75)
        )
        hill = TI.hill(draws, choice.k)
        np.testing.assert_allclose(choice.index.estimate, hill.estimate, rtol=1e-4)
        np.testing.assert_array_equal(choice.index.threshold, hill.threshold)
        expected = TI.extended_pareto(draws, choice.interval_k, confidence=0.8)
        np.testing.assert_allclose(choice.index.lower, expected.lower, rtol=1e-3)
        np.testing.assert_allclose(choice.index.upper, expected.upper, rtol=1e-3)


def test_the_interval_is_of_ten_draws_at_least():
    draws = hto.tails.pareto(1.5).sample(jax.random.key(4), (200,))
    for k, expected in ((5, 5), (12, 10), (40, 16)):
        choice = TI.choose_k_by_distance(draws, min_k=k, max_k=k)
        assert (choice.k, choice.interval_k) == (k, expected)


@pytest.mark.slow
def test_few_candidates_and_points_come_close():
    draws = jnp.abs(hto.tails.student_t(3.0).sample(jax.random.key(0), (5000,)))
    every = TI.choose_k_by_distance(draws, num_candidates=5000, num_points=5000)
    some = TI.choose_k_by_distance(draws, num_candidates=60, num_points=300)
    assert some.criterion < 1.3 * every.criterion


@pytest.mark.slow
def test_the_top_of_a_resample():
    """Ranks without a sort have the means of ranks from a resample that is sorted."""
    keys = jax.random.split(jax.random.key(1), 4000)
    sizes = Resample(jnp.int32(50), jnp.int32(10))
    got = jax.vmap(lambda key: resampled(key, 200, sizes, 16)[:10])(keys)
    plain = np.random.default_rng(2).integers(0, 200, (4000, 50))
    plain = np.sort(plain, axis=-1)[:, :10]
    expected = plain.mean(axis=0)
    tolerance = 4 * plain.std(axis=0).max() / 4000**0.5
    assert means_p_value(got, expected, tolerance) > FALSE_ALARM_RATE
    assert means_p_value(got, expected + 2.0, tolerance) < FALSE_ALARM_RATE
    np.testing.assert_allclose(np.std(got, axis=0), plain.std(axis=0), rtol=0.15)


@pytest.fixture(scope="module")
def choices():
    laws = {
        "pareto": hto.tails.pareto(1.5),
        "student": hto.tails.student_t(2.0),
        "gaussian": hto.tails.gaussian(),
    }
    draws = jnp.stack(
        [jnp.abs(law.sample(jax.random.key(2), (30, 4000))) for law in laws.values()]
    )
    return dict(
        zip(laws, np.asarray(TI.choose_k_by_bootstrap(draws, key=0).k), strict=True)
    ), draws  # fmt: skip


def test_bootstrap_balances_bias_against_variance(choices):
    k, _ = choices
    # Without bias as many as there may be; for Student's law a few per cent.
    assert np.median(k["pareto"]) > 1000
    assert 40 < np.median(k["student"]) < 600
    assert np.median(k["gaussian"]) < 100
    assert k["pareto"].max() <= 2000


def test_bootstrap_does_better_than_a_tenth_or_a_thousandth(choices):
    k, draws = choices
    errors = {}
    for name, use in (
        ("chosen", jnp.asarray(k["student"])),
        ("many", 1600),
        ("few", 4),
    ):
        estimate = np.asarray(TI.hill(draws[1], use).estimate, np.float64)
        errors[name] = np.sqrt(np.mean((1 / estimate - 0.5) ** 2))
    assert errors["chosen"] < 0.7 * min(errors["many"], errors["few"])


def test_draws_of_both_signs_are_judged_by_the_positive_ones():
    draws = hto.tails.student_t(2.0).sample(jax.random.key(4), (10, 4000))
    # About half are positive, fewer than the largest k that is considered.
    for choose in (
        functools.partial(TI.choose_k_by_bootstrap, key=0, max_k=3000),
        TI.choose_k_by_distance,
    ):
        k = np.asarray(choose(draws).k)
        assert 20 < np.median(k) < 600
        assert np.all(k <= np.sum(np.asarray(draws) > 0.0, axis=-1))


@pytest.mark.slow
def test_bootstrap_is_a_function_of_draws_and_key(choices):
    _, draws = choices
    one = TI.choose_k_by_bootstrap(draws[1, :3], key=5, num_resamples=20)
    two = TI.choose_k_by_bootstrap(draws[1, :3] * 8.0, key=5, num_resamples=20)
    np.testing.assert_array_equal(one.k, two.k)
    np.testing.assert_allclose(one.criterion, two.criterion, rtol=1e-3)
    other = TI.choose_k_by_bootstrap(draws[1, :3], key=6, num_resamples=20)
    assert (other.k != one.k).any()
