"""Hill's estimator against float64, laws that it must keep, and its interval."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from statistical_checks import FALSE_ALARM_RATE, law_p_value

import heavytail_optax as hto
from heavytail_optax.tail_index._order_statistics import largest, order_statistic

EPS = float(jnp.finfo(jnp.float32).eps)
DRAWS = hto.tails.pareto(1.5).sample(jax.random.key(0), (4, 500))


def reference(draws, k):
    """alpha by the formula, from draws along the last axis."""
    descending = -np.sort(-np.asarray(draws, np.float64), axis=-1)
    logs = np.log(descending[..., :k] / descending[..., k : k + 1])
    return 1.0 / logs.mean(axis=-1)


@pytest.mark.parametrize("k", [1, 7, 100, 499])
def test_the_formula(k):
    got = hto.tail_index.hill(DRAWS, k)
    expected = reference(DRAWS, k)
    np.testing.assert_allclose(got.estimate, expected, rtol=500 * EPS)
    np.testing.assert_allclose(got.gamma, 1 / expected, rtol=500 * EPS)
    np.testing.assert_allclose(got.standard_error, expected / k**0.5, rtol=500 * EPS)
    np.testing.assert_array_equal(got.threshold, -np.sort(-DRAWS, axis=-1)[:, k])
    assert got.k.dtype == jnp.int32
    assert (got.k == k).all()


def test_the_largest_of_many_are_those_of_a_sort():
    """Found block by block; with a rest that fills no block, ties, and infinities."""
    size = 2**16 + 7
    draws = np.array(
        hto.tails.symmetric_pareto(1.5).sample(jax.random.key(5), (3, size))
    )
    draws[0, -3:] = 1e6
    draws[1, :5000] = 50.0
    draws[2, [5, 77, 78, -1]] = [np.inf, 3e38, np.inf, -np.inf]
    for count in (1, 2, 300, 1024):
        got = largest(jnp.asarray(draws), count)
        np.testing.assert_array_equal(got, -np.sort(-draws, axis=-1)[:, :count])
    # A NaN from arithmetic, such as inf - inf, may have its sign bit set.
    for nan in (np.float32(np.nan), -np.float32(np.nan)):
        for place in (0, 130, size - 1):
            with_nan = draws.copy()
            with_nan[2, place] = nan
            found = largest(jnp.asarray(with_nan), 3)
            assert jnp.isnan(found[:, 0]).tolist() == [False, False, True]
            np.testing.assert_array_equal(found[:2], -np.sort(-draws[:2])[:, :3])
            assert jnp.isnan(hto.tail_index.hill(with_nan, 3).estimate[2])
            assert jnp.isnan(largest(jnp.asarray(with_nan[2, -5:]), 2)[0]) == (
                place > 130
            )
    with jax.enable_x64():
        got = largest(jnp.asarray(draws, jnp.float64), 20)
        np.testing.assert_array_equal(got, -np.sort(-draws, axis=-1)[:, :20])


def test_few_of_many_draws_and_a_traced_k_agree():
    draws = hto.tails.pareto(1.5).sample(jax.random.key(6), (2, 2**16))
    for k in (1, 40, 900):
        one = hto.tail_index.hill(draws, k)
        other = hto.tail_index.hill(draws, jnp.asarray(k))
        for got, expected in zip(one, other, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4)

    def gamma(draws, k):
        return hto.tail_index.hill(draws, k).gamma.sum()

    got = jax.grad(gamma)(draws, 40)
    expected = jax.grad(gamma)(draws, jnp.asarray(40))
    assert jnp.sum(got != 0.0) == 2 * 41
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_an_infinite_draw_makes_the_index_zero():
    draws = DRAWS[0].at[7].set(jnp.inf)
    for interval in ("corrected", "uncorrected"):
        got = hto.tail_index.hill(draws, 50, interval=interval)
        assert got.estimate == got.lower == got.upper == 0.0


def test_the_corrected_interval_is_that_of_the_extended_pareto_law():
    one = hto.tail_index.hill(DRAWS, 100, confidence=0.9)
    other = hto.tail_index.extended_pareto(DRAWS, 100, confidence=0.9)
    np.testing.assert_allclose(one.lower, other.lower, rtol=1e-5)
    np.testing.assert_allclose(one.upper, other.upper, rtol=1e-5)


def test_float64():
    with jax.enable_x64():
        draws = np.random.default_rng(0).pareto(1.5, 500) + 1.0
        got = hto.tail_index.hill(jnp.asarray(draws), 50)
        assert got.estimate.dtype == jnp.float64
        np.testing.assert_allclose(got.estimate, reference(draws, 50), rtol=1e-13)


def test_axes_and_shapes():
    cube = jnp.moveaxis(DRAWS.reshape(2, 2, 500), -1, 1)
    got = hto.tail_index.hill(cube, 20, axis=1).estimate
    expected = hto.tail_index.hill(DRAWS, 20).estimate.reshape(2, 2)
    np.testing.assert_array_equal(got, expected)
    flat = hto.tail_index.hill(cube, 20, axis=None).estimate
    np.testing.assert_allclose(flat, reference(DRAWS.ravel(), 20), rtol=500 * EPS)


def test_k_may_be_traced_and_differ_in_the_batch():
    many = jnp.asarray([1, 7, 100, 499])
    got = jax.jit(hto.tail_index.hill)(DRAWS, many).estimate
    expected = [reference(DRAWS[i], int(k)) for i, k in enumerate(many)]
    np.testing.assert_allclose(got, expected, rtol=500 * EPS)
    bad = hto.tail_index.hill(DRAWS, jnp.asarray([0, -1, 500, 501]))
    assert jnp.isnan(bad.estimate).all()


def test_units_and_order_do_not_matter():
    got = hto.tail_index.hill(DRAWS, 50).estimate
    shuffled = jax.random.permutation(jax.random.key(1), DRAWS, axis=-1)
    np.testing.assert_allclose(
        hto.tail_index.hill(shuffled, 50).estimate, got, rtol=50 * EPS
    )
    np.testing.assert_allclose(
        hto.tail_index.hill(DRAWS * 1e-30, 50).estimate, got, rtol=500 * EPS
    )
    # Only the largest draws matter, whatever the others are.
    below = jnp.where(DRAWS < 2.0, -jnp.inf, DRAWS)
    np.testing.assert_array_equal(hto.tail_index.hill(below, 50).estimate, got)


def test_draws_that_have_no_logarithm_give_nan():
    mixed = jnp.asarray([3.0, 2.0, 1.0, 0.0, -1.0])
    assert hto.tail_index.hill(mixed, 2).estimate > 0
    assert jnp.isnan(hto.tail_index.hill(mixed, 3).estimate)
    assert jnp.isnan(hto.tail_index.hill(-mixed, 2).estimate)
    assert jnp.isnan(hto.tail_index.hill(mixed.at[4].set(jnp.nan), 1).estimate)


def test_derivative():
    draws = jnp.asarray([1.0, 5.0, 3.0, 4.0, 2.0])
    got = jax.grad(lambda x: hto.tail_index.hill(x, 3).gamma)(draws)
    # gamma = (log 5 + log 4 + log 3) / 3 - log 2
    np.testing.assert_allclose(got, [0, 1 / 15, 1 / 9, 1 / 12, -1 / 2], rtol=8 * EPS)


@pytest.mark.parametrize("k", [10, 100])
def test_the_interval_is_that_of_the_gamma_law(k):
    got = hto.tail_index.hill(DRAWS, k, interval="uncorrected", confidence=0.9)
    for end, probability in ((got.lower, 0.05), (got.upper, 0.95)):
        exact = scipy.stats.gamma(k).ppf(probability) / k
        np.testing.assert_allclose(end / got.estimate, exact, rtol=1e-3)


def test_the_law_of_the_estimate():
    """k gamma_hat / gamma is a gamma variable, and would not be with a wrong alpha."""
    draws = hto.tails.pareto(1.5).sample(jax.random.key(2), (2000, 200))
    gamma = np.asarray(hto.tail_index.hill(draws, 40).gamma, np.float64)
    law = scipy.stats.gamma(40)
    assert law_p_value(gamma * 1.5 * 40, law.cdf) > FALSE_ALARM_RATE
    assert law_p_value(gamma * 1.6 * 40, law.cdf) < FALSE_ALARM_RATE


def test_it_answers_for_a_gaussian_too():
    draws = jnp.abs(hto.tails.gaussian().sample(jax.random.key(3), (10_000,)))
    assert 4.3 < hto.tail_index.hill(draws, 1000).estimate < 5.1
    assert 7.0 < hto.tail_index.hill(draws, 100).estimate


def test_path():
    path = hto.tail_index.hill_path(DRAWS, 100)
    assert path.estimate.shape == (4, 100)
    for k in (1, 30, 100):
        one = hto.tail_index.hill(DRAWS, k)
        for name in ("estimate", "standard_error", "threshold"):
            np.testing.assert_allclose(
                getattr(path, name)[:, k - 1], getattr(one, name), rtol=1e-4
            )
    np.testing.assert_array_equal(path.k, np.arange(1, 101))


ORDERED = [np.inf, 3e38, 2.0, 2.0, 1.5, 1e-30, 0.0, -1.0, -np.inf]


@pytest.mark.parametrize("rank", range(len(ORDERED)))
def test_order_statistics(rank):
    shuffled = np.random.default_rng(0).permutation(np.asarray(ORDERED, np.float32))
    got = order_statistic(jnp.asarray(shuffled), jnp.asarray(rank))
    assert got == max(ORDERED[rank], 0.0)


def test_order_statistics_in_float64():
    with jax.enable_x64():
        draws = np.exp(np.random.default_rng(1).normal(size=(3, 50)) * 100)
        for rank in (0, 20, 49):
            got = order_statistic(jnp.asarray(draws), jnp.asarray(rank))
            np.testing.assert_array_equal(got, -np.sort(-draws, axis=-1)[:, rank])
