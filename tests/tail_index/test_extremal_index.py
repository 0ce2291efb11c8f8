"""Clusters of large draws: against closed forms, and series of known theta."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from statistical_checks import FALSE_ALARM_RATE, counts_p_value

import heavytail_optax as hto

TI = hto.tail_index


def max_autoregression(theta, num, size):
    """`X_t = max((1 - theta) X_(t-1), theta Z_t)`: index 1, and this extremal index."""
    rng = np.random.default_rng(0)
    draws = theta / rng.exponential(size=(num, size))
    for step in range(1, size):
        kept = (1.0 - theta) * draws[:, step - 1]
        draws[:, step] = np.maximum(kept, draws[:, step])
    return draws


def intervals_estimate(series, k):
    """Ferro and Segers (2003), equation 6, in float64."""
    order = np.argsort(-series, kind="stable")[:k]
    gaps = np.diff(np.sort(order)).astype(np.float64)
    if gaps.max() <= 2:
        return min(1.0, 2 * gaps.sum() ** 2 / (gaps.size * (gaps**2).sum()))
    short, product = gaps - 1, (gaps - 1) * (gaps - 2)
    return min(1.0, 2 * short.sum() ** 2 / (gaps.size * product.sum()))


@pytest.mark.parametrize("theta", [1.0, 0.4])
@pytest.mark.parametrize("k", [20, 150])
def test_the_estimate_is_that_of_the_formula(theta, k):
    series = max_autoregression(theta, 3, 1000)
    found = TI.extremal_index(series, k)
    expected = [intervals_estimate(row, k) for row in series]
    np.testing.assert_allclose(found.estimate, expected, rtol=1e-5)
    tops = np.sort(series)[:, -k - 1]
    np.testing.assert_allclose(found.threshold, tops, rtol=1e-6)
    everything = TI.extremal_index(series[0], 990)  # no gap above two
    expected = intervals_estimate(series[0], 990)
    np.testing.assert_allclose(everything.estimate, expected, rtol=1e-5)


def test_blocks_and_jackknife_in_float64():
    k, series = 100, max_autoregression(0.3, 1, 3000)[0]
    found = TI.extremal_index(series, k)
    where = np.sort(np.argsort(-series)[:k])
    logs = np.log(series[where] / np.sort(series)[-k - 1])
    sums = np.zeros(10)
    np.add.at(sums, where // 300, logs / logs.mean() - 1)
    expected = 10 * sums.var(ddof=1) / np.sum((logs / logs.mean() - 1) ** 2)
    expected = max(expected, 1 / found.estimate)
    np.testing.assert_allclose(found.variance_inflation, expected, rtol=1e-4)
    gaps = np.diff(where).astype(float)

    def estimate(gaps):
        product = (gaps - 1) * (gaps - 2)
        return 2 * (gaps - 1).sum() ** 2 / (gaps.size * product.sum())

    logs = np.log([estimate(np.delete(gaps, i)) for i in range(gaps.size)])
    error = np.sqrt((gaps.size - 1) * logs.var())
    np.testing.assert_allclose(found.standard_error, estimate(gaps) * error, rtol=1e-3)
    close = sum(np.isin(where + lag, where).sum() for lag in range(1, 11))
    pairs = sum(3000 - lag for lag in range(1, 11)) * k * (k - 1) / (3000 * 2999)
    expected = scipy.stats.poisson.sf(close - 1, pairs)
    np.testing.assert_allclose(found.p_value, expected, rtol=1e-2, atol=1e-12)


def test_independence_is_rejected_at_its_rate():
    """At the level of 1 %: at most 1 % of independent series, and all dependent ones.

    A right test fails the first for at most one key in a million.
    """
    independent = hto.tails.pareto(1.5).sample(jax.random.key(0), (2000, 1000))
    found = TI.extremal_index(independent, 50)
    alarms = int(jnp.sum(found.p_value < 0.01))
    assert scipy.stats.binom.sf(alarms - 1, 2000, 0.01) > FALSE_ALARM_RATE
    dependent = TI.extremal_index(max_autoregression(0.5, 100, 1000), 50)
    assert jnp.mean(dependent.p_value < 0.01) > 0.95


@pytest.mark.parametrize("theta", [1.0, 0.5, 0.2])
def test_intervals_cover(theta):
    """theta in 90 to 100 %, the index in 92 to 98 % when widened; a control without.

    Coverage within these bounds fails for at most one key in a million.
    """
    num, k = 300, 100
    series = max_autoregression(theta, num, 5000)
    found = TI.extremal_index(series, k)
    count = int(jnp.sum((found.lower <= theta) & (theta <= found.upper)))
    allowed = np.clip(count / num, 0.90, 1.0)
    assert counts_p_value(count, num, allowed) > FALSE_ALARM_RATE
    inflation = found.variance_inflation
    for estimator in (TI.hill, TI.generalised_pareto):
        widened = estimator(series, k, variance_inflation=inflation)
        count = int(jnp.sum((widened.lower <= 1.0) & (1.0 <= widened.upper)))
        allowed = np.clip(count / num, 0.92, 0.98)
        assert counts_p_value(count, num, allowed) > FALSE_ALARM_RATE, count / num
        if theta < 1.0:
            narrow = estimator(series, k)
            count = int(jnp.sum((narrow.lower <= 1.0) & (1.0 <= narrow.upper)))
            assert counts_p_value(count, num, 0.92) < FALSE_ALARM_RATE


def test_inflation_is_fewer_draws():
    """Four times the variance: the interval of an exact power law of a quarter of k."""
    draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (2000,))
    wide = TI.hill(draws, 400, interval="uncorrected", variance_inflation=4.0)
    plain = TI.hill(draws, 400, interval="uncorrected")
    np.testing.assert_allclose(wide.estimate, plain.estimate)
    np.testing.assert_allclose(wide.standard_error, 2 * plain.standard_error, rtol=1e-5)
    fewer = TI.hill(draws, 100, interval="uncorrected")
    ratio = fewer.lower / fewer.estimate, fewer.upper / fewer.estimate
    found = wide.lower / wide.estimate, wide.upper / wide.estimate
    np.testing.assert_allclose(found, ratio, rtol=1e-4)
    pareto = [
        TI.generalised_pareto(draws, 400, variance_inflation=x) for x in (1.0, 4.0)
    ]
    ratio = pareto[1].gamma_standard_error / pareto[0].gamma_standard_error
    np.testing.assert_allclose(ratio, 2.0, rtol=1e-5)
    assert pareto[1].lower < pareto[0].lower < pareto[0].upper < pareto[1].upper
    params = {"w": jnp.zeros(1)}
    tracking = TI.track_tail_index(400)
    noise = {"w": draws[:, None]}
    _, state = tracking.update(params, tracking.init(params), gradient_noise=noise)
    tracked = TI.tracked_tail_index(state, params, variance_inflation=4.0)["w"]
    expected = TI.hill(draws, 400, variance_inflation=4.0)
    np.testing.assert_allclose(tracked.lower, expected.lower, rtol=1e-5)


def test_two_clusters_and_one():
    """Of two, the jackknife has one gap; of one, the formula says theta = 1."""
    two = jnp.arange(1000.0) / 1000.0
    two = two.at[100:110].add(10.0).at[500:511].add(10.0)
    found = TI.extremal_index(two, 20)
    np.testing.assert_allclose(found.estimate, intervals_estimate(np.asarray(two), 20))
    assert (found.lower, found.upper) == (0.0, 1.0)
    assert jnp.isinf(found.standard_error) and found.p_value < 1e-6
    one = jnp.arange(1000.0).at[100:121].add(1e4)
    found = TI.extremal_index(one, 20)
    assert found.estimate == 1.0 and found.p_value < 1e-6


def test_units_and_axes_and_no_use():
    series = max_autoregression(0.5, 2, 500).astype(np.float32)
    found = TI.extremal_index(series, 40)
    scaled = TI.extremal_index(8 * series.T, 40, axis=0)
    for one, other in zip(found[:6], scaled[:6], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)
    assert jnp.isnan(TI.extremal_index(jnp.ones(100), 20).estimate)
    infinite = jnp.arange(100.0).at[3].set(jnp.inf)
    assert jnp.isnan(TI.extremal_index(infinite, 20).variance_inflation)


def test_what_evd_finds():
    """The intervals estimator of the R package evd 2.3-6.1, of draws that R makes, too.

    s <- 1; u <- numeric(5001)
    for (i in 1:5001) { s <- (16807 * s) %% 2147483647; u[i] <- s / 2147483647 }
    x <- 1 / u; y <- pmax(x[-1], x[-5001])
    evd::exi(y, sort(y, decreasing = TRUE)[200], r = 0)  # 0.4358418143
    evd::exi(x, sort(x, decreasing = TRUE)[201], r = 0)  # 0.9518388951
    """
    seed, uniform = 1, []
    for _ in range(5001):
        seed = 16807 * seed % 2147483647
        uniform.append(seed / 2147483647)
    x = 1.0 / np.asarray(uniform)
    y = np.maximum(x[1:], x[:-1])
    for series, k, expected in ((y, 199, 0.4358418143), (x, 200, 0.9518388951)):
        found = TI.extremal_index(series, k)
        np.testing.assert_allclose(found.estimate, expected, rtol=1e-5)
