"""First exits against exact laws, the theory's figures, and with censoring."""

import numpy as np
import pytest
import scipy.stats
from statistical_checks import FALSE_ALARM_RATE, counts_p_value

import heavytail_optax as hto
from heavytail_optax.dynamics import _exit_times

ALPHA, SCALE = 1.5, 0.02
TAIL = hto.tails.symmetric_pareto(ALPHA)
LEFT, RIGHT = 0.3, 0.5
# With eta kappa = 1 and no truncation X_t = -c Z_t: independent, so that the exit time
# is geometric and where it goes is independent of it.
WELL = hto.dynamics.quadratic(1.0, LEFT, RIGHT)
PROCESS = hto.dynamics.sgd_process(1.0, float("inf"), TAIL, SCALE)
TO_LEFT, TO_RIGHT = (0.5 * (SCALE / end) ** ALPHA for end in (LEFT, RIGHT))
RATE = TO_LEFT + TO_RIGHT


@pytest.fixture(scope="module")
def exits():
    return hto.dynamics.first_exit_times(
        WELL, PROCESS, 0, key=0, num_exits=4096, max_steps=100_000
    )


def test_geometric_exit_times(exits):
    assert exits.num_exits == 4096
    total = exits.times.sum()  # exits in so many steps: negative binomial
    law = scipy.stats.nbinom(4096, RATE)
    for rate_factor, is_right in ((1.0, True), (1.15, False)):
        law = scipy.stats.nbinom(4096, rate_factor * RATE)
        p_value = 2.0 * min(law.cdf(total - 4096), law.sf(total - 4097))
        assert (p_value > FALSE_ALARM_RATE) == is_right
    cells = np.ceil(np.log1p(-np.arange(1, 10) / 10) / np.log1p(-RATE))
    counts = [np.sum(exits.times <= t) for t in cells]
    p_value = counts_p_value(counts, 4096, -np.expm1(cells * np.log1p(-RATE)))
    assert p_value > FALSE_ALARM_RATE


def test_destinations(exits):
    lefts = np.sum(exits.destinations == -1)
    assert lefts + np.sum(exits.destinations == 1) == 4096
    assert counts_p_value([lefts], 4096, [TO_LEFT / RATE]) > FALSE_ALARM_RATE
    assert counts_p_value([lefts], 4096, [TO_RIGHT / RATE]) < FALSE_ALARM_RATE


def test_censoring_is_told_and_does_not_bias_the_mean():
    limit = 60
    exits = hto.dynamics.first_exit_times(
        WELL, PROCESS, 0, key=1, num_exits=4096, max_steps=limit
    )
    stays = (1.0 - RATE) ** limit
    censored = np.sum(exits.is_censored)
    assert counts_p_value([censored], 4096, [stays]) > FALSE_ALARM_RATE
    assert np.all(exits.times[exits.is_censored] == limit)
    assert np.all(exits.destinations[exits.is_censored] == 0)
    assert abs(exits.mean * RATE - 1.0) < 5.0 * exits.standard_error * RATE
    # The mean of those that left is another thing.
    assert exits.times[~exits.is_censored].mean() * RATE < 0.6
    with pytest.raises(ValueError, match="raise `max_steps`"):
        hto.dynamics.exponential_p_value(exits)


def test_no_exit_at_all():
    process = hto.dynamics.sgd_process(1.0, 0.1, hto.tails.gaussian(), 0.0)
    exits = hto.dynamics.first_exit_times(
        WELL, process, 0, key=0, num_exits=3, max_steps=10
    )
    assert exits.num_exits == 0
    assert exits.mean == exits.standard_error == float("inf")
    assert exits.destination_shares(1).tolist() == [0.0]


def test_taking_chains_out_changes_nothing(monkeypatch):
    def make(key):
        return hto.truncated_heavy_tailed_sgd(
            0.5, 0.5, TAIL, SCALE, key=key, momentum=0.5
        )

    process = hto.dynamics.optax_process(make)

    def run():
        return hto.dynamics.first_exit_times(
            WELL, process, 0, key=0, num_exits=32, max_steps=5000
        )

    whole = run()
    monkeypatch.setattr(_exit_times, "_FEWEST_CHAINS", 16)
    monkeypatch.setattr(_exit_times, "_FIRST_CHUNK", 10)
    parts = run()
    np.testing.assert_array_equal(whole.times, parts.times)
    np.testing.assert_array_equal(whole.destinations, parts.destinations)
    assert whole.num_exits == 32


def test_a_start_outside_of_the_field_is_refused():
    with pytest.raises(ValueError, match="in field 0"):
        hto.dynamics.first_exit_times(
            WELL, PROCESS, 0, key=0, num_exits=2, max_steps=10, start=0.6
        )


def test_the_test_of_exponentiality_holds_its_level_and_has_power():
    rng = np.random.default_rng(1)
    p_values = [
        hto.dynamics.exponential_p_value(rng.exponential(7.0, 100), num_draws=199)
        for _ in range(300)
    ]
    # 5 % level: Binomial(300, .05) is at most 35 but once in a million.
    assert np.sum(np.asarray(p_values) <= 0.05) <= 35
    gamma = rng.gamma(2.0, size=500)
    assert hto.dynamics.exponential_p_value(gamma, num_draws=999) == 1e-3


@pytest.mark.slow
def test_narrow_fields_of_the_landscape_as_measured_before():
    """theory.md section 3: eta 1e-3, c .1, alpha 1.2, b .5, by another program."""
    landscape = hto.dynamics.four_minima()
    process = hto.dynamics.sgd_process(1e-3, 0.5, hto.tails.symmetric_pareto(1.2), 0.1)
    exits = hto.dynamics.first_exit_times(
        landscape, process, 2, key=0, num_exits=2048, max_steps=10**6
    )
    assert exits.num_exits == 2048
    error = exits.mean * np.hypot(0.018, 2048**-0.5)
    assert abs(exits.mean - 1.060e4) < 4.0 * error
    shares = exits.destination_shares(4)
    assert abs(shares[1] - 0.415) < 4.0 * np.sqrt(0.415 * 0.585 * (1 / 2048 + 1 / 3000))
    # Level 1 in 1000: exits of a rare event are exponential.
    assert hto.dynamics.exponential_p_value(exits) > 1e-3


@pytest.mark.slow
def test_wide_fields_of_the_landscape_as_measured_before():
    landscape = hto.dynamics.four_minima()
    process = hto.dynamics.sgd_process(1e-3, 0.5, hto.tails.symmetric_pareto(1.2), 0.1)
    for field, mean, to_left in ((1, 8.72e5, 0.940), (3, 1.157e6, 1.0)):
        exits = hto.dynamics.first_exit_times(
            landscape, process, field, key=0, num_exits=1024, max_steps=2 * 10**7
        )
        error = exits.mean * np.hypot(0.045, 1024**-0.5)
        assert abs(exits.mean - mean) < 4.0 * error
        assert abs(exits.destination_shares(4)[field - 1] - to_left) < 0.06
        assert hto.dynamics.exponential_p_value(exits) > 1e-3
