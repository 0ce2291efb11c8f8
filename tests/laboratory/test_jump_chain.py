"""Jumps between minima against the Markov chain, and intervals of mean exit times."""

import math

import numpy as np
import pytest
from statistical_checks import FALSE_ALARM_RATE, counts_p_value

import heavytail_optax as hto
from heavytail_optax.laboratory import exit_times, jump_chain

DYNAMICS = hto.dynamics
LEVEL = 0.05
NUM_TRIALS = 400


def holds_its_level(p_values):
    """Whether rejections at 5 % are as many as a right test has, or fewer."""
    rejections = np.sum(np.asarray(p_values) <= LEVEL)
    # 43 of 400 is exceeded once in a million.
    return rejections <= 43


def test_chi_square_of_rates_holds_its_level_and_has_power():
    rng = np.random.default_rng(0)
    limit, finite, times = (0.2, 1.2), (0.3, 1.5), (400.0, 60.0)

    def p_value(factor, *, at_finite_rate):
        jumps = [
            jump_chain.JumpRate(
                *(k, 1 - k, rng.poisson(factor * finite[k] * times[k]), times[k]),
                *(limit[k], finite[k]),
            )
            for k in range(2)
        ]
        return jump_chain.poisson_p_value(jumps, at_finite_rate=at_finite_rate)

    assert holds_its_level(
        [p_value(1.0, at_finite_rate=True) for _ in range(NUM_TRIALS)]
    )
    assert p_value(1.0, at_finite_rate=False) < 1e-3
    assert p_value(2.0, at_finite_rate=True) < 1e-6


def test_chi_square_of_shares_holds_its_level_and_has_power():
    rng = np.random.default_rng(1)
    finite = np.asarray([0.3, 0.0, 0.6, 0.1])
    limit = np.asarray([0.5, 0.0, 0.5, 0.0])

    def p_value(chances, *, at_finite_rate=True):
        share = jump_chain.JumpShare(1, rng.multinomial(300, chances), limit, finite)
        return jump_chain.share_p_value([share], at_finite_rate=at_finite_rate)

    assert holds_its_level([p_value(finite) for _ in range(NUM_TRIALS)])
    assert p_value(finite, at_finite_rate=False) < 1e-3
    assert p_value([0.6, 0.0, 0.3, 0.1]) < 1e-3
    none = jump_chain.JumpShare(0, np.asarray([0, 5, 0, 0]), np.eye(4)[1], np.eye(4)[1])
    assert math.isnan(jump_chain.share_p_value([none], at_finite_rate=True))
    unseen = jump_chain.JumpShare(1, np.zeros(4, int), limit, finite)
    assert math.isnan(jump_chain.share_p_value([unseen], at_finite_rate=False))


def test_intervals_of_a_mean_cover_it():
    """Time at risk of 40 chains, censored at half of their mean."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(NUM_TRIALS):
        times = rng.exponential(1.0, 40)
        low, high = exit_times.mean_interval(
            np.minimum(times, 0.5).sum(), int((times < 0.5).sum())
        )
        covered += low < 1.0 < high
    assert counts_p_value([covered], NUM_TRIALS, [0.955]) > FALSE_ALARM_RATE
    assert counts_p_value([covered], NUM_TRIALS, [0.85]) < FALSE_ALARM_RATE
    assert exit_times.mean_interval(10.0, 0)[1] == float("inf")


def test_the_slope_of_two_means_and_its_error():
    time = exit_times.ExitTime(0, 1.0, 1.0, lower=0.8, upper=1.25, theory=1, epsilon=0)
    other = time._replace(learning_rate=0.1, mean=100.0, lower=80.0, upper=125.0)
    slope, error = exit_times.measured_slope([time, other])
    assert slope == pytest.approx(-2.0)
    # Of a difference of two logarithms, over the distance of the learning rates.
    own = math.log(1.25 / 0.8) / (2 * 1.96)
    assert error == pytest.approx(2**0.5 * own / math.log(10.0))


def test_last_visits_keep_the_last_wide_minimum():
    four = DYNAMICS.four_minima()
    paths = np.asarray([[0.4, 1.3], [0.5, -1.5], [-0.7, -0.7], [0.5, 0.5], [1.3, 0.5]])
    labels = jump_chain.last_visits(four, (1, 3), paths)
    # At the start the nearest one.
    np.testing.assert_array_equal(labels, [[1, 1], [1, 1], [0, 0], [0, 0], [1, 0]])


@pytest.mark.slow
def test_jumps_between_wide_minima_are_those_of_the_generator():
    """1e9 chain-steps at eta 1e-3. Level 1 in 1000, for either of two tests."""
    eta, noise = 1e-3, {"scale": 0.1, "max_norm": 0.5}
    four, tail = DYNAMICS.four_minima(), hto.tails.symmetric_pareto(1.2)
    rates = DYNAMICS.exit_rates(four, tail=tail, **noise)
    limit = DYNAMICS.markov_chain(rates)
    finite = DYNAMICS.markov_chain(
        jump_chain.finite_rates(rates, eta, seed=1, num_samples=20_000)
    )
    start = np.asarray(four.minima)[np.where(np.arange(256) % 9 == 0, 3, 1)]

    def run(landmarks):
        return DYNAMICS.simulate(
            four,
            DYNAMICS.sgd_process(eta, 0.5, tail, 0.1),
            key=3,
            start=start,
            num_steps=2_000_000,
            num_chains=256,
            burn_in=100_000,
            record_every=10,
            landmarks=landmarks,
        )

    jumps = jump_chain.jump_rates(run(limit.wide), limit, finite, eta)
    assert min(jump.count for jump in jumps) > 15
    assert jump_chain.poisson_p_value(jumps, at_finite_rate=True) > 1e-3
    doubled = [jump._replace(finite=2.0 * jump.finite) for jump in jumps]
    assert jump_chain.poisson_p_value(doubled, at_finite_rate=True) < 1e-3
    shares = jump_chain.jump_shares(run(limit.fields), limit, finite)
    assert jump_chain.share_p_value(shares, at_finite_rate=True) > 1e-3
    mirrored = [share._replace(finite=0.5 * (share.limit > 0.0)) for share in shares]
    assert jump_chain.share_p_value(mirrored, at_finite_rate=True) < 1e-3
