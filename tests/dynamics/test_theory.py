import dataclasses
import re

import numpy as np
import pytest
import scipy.integrate
from statistical_checks import FALSE_ALARM_RATE

import heavytail_optax as hto

DYNAMICS = hto.dynamics
INF = float("inf")
FOUR = DYNAMICS.four_minima()


@dataclasses.dataclass(frozen=True)
class Skewed:
    """A tail with any share of negative draws; only what the theory reads."""

    tail_index: float
    right_tail_weight: float
    is_centred = True

    def sample(self, key, shape=(), dtype=None, *, out_sharding=None):
        raise NotImplementedError

    def tail_probability(self, x):
        return np.minimum(1.0, np.asarray(x, float) ** -self.tail_index)


def rates_of(landscape, alpha, *, max_norm=0.5, scale=0.1, left_jumps=0.5):
    """The share of jumps to the left is that of positive Z."""
    tail = Skewed(alpha, left_jumps)
    return DYNAMICS.exit_rates(landscape, tail=tail, scale=scale, max_norm=max_norm)


TABLE = {
    1.2: {(0, 1): 3.2258, (1, 0): 3.8471, (1, 2): 0.23375, (2, 1): 2.1527}
    | {(2, 3): 3.3732, (3, 2): 2.9687},
    1.5: {(0, 1): 5.1411, (1, 0): 8.5528, (1, 2): 0.3781, (2, 1): 3.1009}
    | {(2, 3): 5.4363, (3, 2): 6.3243},
}


@pytest.mark.parametrize("alpha", TABLE)
def test_rates_of_the_four_minima(alpha):
    rates = rates_of(FOUR, alpha)
    np.testing.assert_array_equal(rates.jumps, [1, 2, 1, 2])
    np.testing.assert_allclose(
        rates.slack, [0.2115, 0.1007, 0.2038, 0.1221], atol=5.1e-5
    )
    expected = np.zeros((4, 4))
    for (start, stop), value in TABLE[alpha].items():
        expected[start, stop] = value
    np.testing.assert_allclose(rates.between_fields, expected, rtol=1.2e-4, atol=1e-9)
    np.testing.assert_allclose(rates.total, rates.between_fields.sum(axis=-1))
    assert rates.notes == ()


@pytest.mark.parametrize(
    ("alpha", "left_jumps", "ends", "expected"),
    [
        (1.2, 0.5, (0.9, 0.7), 3.479),
        (1.5, 0.5, (0.9, 0.7), 6.563),
        (1.8, 0.5, (0.9, 0.7), 12.41),
        (1.2, 0.3, (0.9, 0.7), 6.210),
        (1.2, 0.5, (INF, 1.2), 0.5367),
    ],
)
def test_rates_of_the_quadratic(alpha, left_jumps, ends, expected):
    rates = rates_of(DYNAMICS.quadratic(1.0, *ends), alpha, left_jumps=left_jumps)
    half_a_digit = 0.51 * 10.0 ** (np.floor(np.log10(expected)) - 3)
    np.testing.assert_allclose(rates.total, [expected], atol=half_a_digit)


def test_two_jumps_from_a_quadratic_by_another_quadrature():
    """And for any curvature and any width: `kappa^-1 d^(-2 alpha)` times one integral."""
    kappa, alpha, bound = 3.0, 1.4, 0.6
    rates = rates_of(DYNAMICS.quadratic(kappa, 0.8, 1.1), alpha, max_norm=bound)
    for column, d in ((0, 0.8), (2, 1.1)):
        integral, _ = scipy.integrate.quad(
            lambda u, d=d: u ** (-alpha - 1.0) * (d - u) ** -alpha,
            *(d - bound, bound),
            epsabs=0,
            epsrel=1e-11,
        )
        np.testing.assert_allclose(rates.rates[0, column], 0.25 * integral / kappa)


def test_the_measure_scales_with_the_landscape():
    """Widths and b times 2: `q` times `2^(-l alpha)`, slowness being scale free."""
    for ends, jumps in (
        ((0.4, INF), 1),
        ((0.9, INF), 2),
        ((1.2, INF), 3),
        ((2.3, INF), 5),
    ):
        one = rates_of(DYNAMICS.quadratic(1.0, *ends), 1.3)
        two = rates_of(DYNAMICS.quadratic(1.0, 2 * ends[0], INF), 1.3, max_norm=1.0)
        assert one.jumps == jumps
        np.testing.assert_allclose(
            one.total, two.total * 2.0 ** (jumps * 1.3), rtol=1e-7
        )
        assert one.notes == ()


def test_untruncated_jumps_leave_at_once():
    rates = rates_of(FOUR, 1.2, max_norm=INF)
    np.testing.assert_array_equal(rates.jumps, 1)
    left, right = FOUR.sides.T
    np.testing.assert_allclose(rates.total, 0.5 * (left**-1.2 + right**-1.2))
    # Over a neighbour at once.
    first = np.asarray(FOUR.maxima) - FOUR.minima[0]
    np.testing.assert_allclose(
        rates.between_fields[0, 1:], -0.5 * np.diff([*first**-1.2, 0.0])
    )


def monte_carlo(landscape, field, side, alpha, bound, jumps, number, seed):
    """Exits by `jumps` jumps straight from the definition, by simulation of the measure.

    Jumps are drawn from nu above the slack, waits uniformly up to a bound that the
    flow's return sets, and the flow is integrated by Runge and Kutta's method.
    """
    rng = np.random.default_rng(seed)
    minimum = landscape.minima[field]
    ends = np.asarray(landscape.ends)
    distance = landscape.sides[field, (side + 1) // 2]
    slack = distance - (jumps - 1) * bound
    longest = 1.5
    y = np.full(number, minimum)
    for jump in range(jumps):
        if jump:
            wait = rng.uniform(0.0, longest, number)
            step = wait / 150
            for _ in range(150):
                k1 = landscape.gradients_at(y)
                k2 = landscape.gradients_at(y - 0.5 * step * k1)
                y = y - step * k2
        w = slack * rng.uniform(size=number) ** (-1.0 / alpha)
        y = y + side * np.minimum(w, bound)
    weight = (0.5 * slack**-alpha) ** jumps * longest ** (jumps - 1)
    fields = np.searchsorted(ends, y) - 1
    return weight, fields


@pytest.mark.parametrize(
    ("field", "side", "target", "factor", "agrees"),
    [
        (1, -1, 0, 1.0, True),
        (1, 1, 2, 1.0, True),
        (3, -1, 2, 1.0, True),
        # Negative control: a fifth less.
        (1, -1, 0, 0.8, False),
    ],
)
def test_rates_against_the_definition(field, side, target, factor, agrees):
    number = 40_000
    weight, fields = monte_carlo(FOUR, field, side, 1.2, 0.5, 2, number, seed=3)
    hits = np.count_nonzero(fields == target)
    expected = number * factor * rates_of(FOUR, 1.2).between_fields[field, target]
    p_value = scipy.stats.binomtest(hits, number, expected / weight / number).pvalue
    # The longest wait of a way out is .65 in these fields.
    assert (p_value > FALSE_ALARM_RATE) == agrees


def test_destinations_beyond_the_neighbour():
    """Two jumps, the last of which may land in either of two fields on the right."""
    landscape = DYNAMICS.wells_landscape([0.0, 0.75, 1.2], [0.7, 0.82], [2.0, 5.0, 3.0])
    alpha, bound = 1.3, 0.5
    rates = rates_of(landscape, alpha, max_norm=bound)

    def landing(u, low, high):
        """nu of the truncated jumps from u that land between two points."""
        mass = max(low - u, 0.0) ** -alpha if low - u < bound else 0.0
        return mass - ((high - u) ** -alpha if high - u < bound else 0.0)

    for column, (low, high) in {1: (0.7, 0.82), 2: (0.82, INF)}.items():
        integral, _ = scipy.integrate.quad(
            lambda u, low=low, high=high: (
                u**-alpha * landing(u, low, high) / landscape.gradients_at([u])[0]
            ),
            *(0.2, 0.5),
            points=[0.32],
            epsabs=0,
            epsrel=1e-9,
        )
        np.testing.assert_allclose(
            rates.between_fields[0, column], 0.25 * integral, rtol=1e-7
        )


def test_the_share_of_jumps_to_each_side():
    fair, left = rates_of(FOUR, 1.2), rates_of(FOUR, 1.2, left_jumps=0.8)
    ratio = left.between_fields[[1, 3, 1, 0, 2, 2], [0, 2, 2, 1, 3, 1]]
    ratio = ratio / fair.between_fields[[1, 3, 1, 0, 2, 2], [0, 2, 2, 1, 3, 1]]
    np.testing.assert_allclose(ratio, [2.56, 2.56, 0.16, 0.4, 0.4, 1.6])
    # The package's own skewed tail: beta = 1 has all its weight on positive Z, so no
    # jumps to the right.
    stable = DYNAMICS.exit_rates(
        FOUR, tail=hto.tails.alpha_stable(1.5, 1.0), scale=0.1, max_norm=0.5
    )
    assert stable.between_fields[0, 1] == 0.0
    np.testing.assert_allclose(
        stable.between_fields[1, 0], 4 * TABLE[1.5][1, 0], rtol=1e-4
    )
    assert any("rate is 0" in note for note in stable.notes)


@pytest.mark.parametrize(
    ("max_norm", "jumps"),
    [(0.25, [1, 3, 1, 3]), (0.35, [1, 2, 1, 2]), (0.59, [1, 2, 1, 2])]
    + [(0.61, [1, 1, 1, 2]), (0.63, [1, 1, 1, 1])],
)
def test_jumps_by_truncation(max_norm, jumps):
    np.testing.assert_array_equal(rates_of(FOUR, 1.2, max_norm=max_norm).jumps, jumps)


def test_time_scales_and_mean_exit_times():
    rates = rates_of(FOUR, 1.2)
    large = (0.1 * 1e-3) ** 1.2
    np.testing.assert_allclose(
        rates.time_scales(1e-3), large * (large / 1e-3) ** np.asarray([0, 1, 0, 1])
    )
    # The direct runs of the theory's notes: ratios of measured to this.
    direct = np.asarray([1.912e4, 8.72e5, 1.060e4, 1.157e6])
    np.testing.assert_allclose(
        direct / rates.mean_exit_times(1e-3), [0.977, 0.894, 0.928, 0.863], atol=2e-3
    )


def test_conditions_are_told():
    rates = rates_of(FOUR, 1.2)
    np.testing.assert_allclose(
        rates.stability_limits[[0, 2]], [1.224e-2, 4.48e-3], rtol=1e-3
    )
    assert rates.conditions(1e-9) == ()
    (told,) = rates.conditions(1e-3)
    assert re.findall(r"(\d) \(", told) == ["1", "3"]
    # epsilon is 1/kappa times the rate of jumps above the slack in a quadratic.
    well = rates_of(DYNAMICS.quadratic(2.0, 0.3, 0.4), 1.2)
    expected = (0.1 * 1e-3 / 0.3) ** 1.2 / 1e-3 / 2.0
    np.testing.assert_allclose(well.criterion(1e-3), [expected], rtol=1e-6)
    near = rates_of(FOUR, 1.2, max_norm=0.61)
    assert "Field 1: width / b" in near.notes[0]


@pytest.mark.parametrize("method", ["time_scales", "mean_exit_times", "criterion"])
def test_a_learning_rate_that_diverges_is_refused(method):
    function = getattr(rates_of(FOUR, 1.2), method)
    for bad in (5e-3, 0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="`learning_rate` argument of `ExitRates"):
            function(bad)


def test_a_width_that_is_a_multiple_of_b_is_refused():
    with pytest.raises(ValueError, match="`max_norm` argument of `exit_rates`"):
        rates_of(DYNAMICS.quadratic(1.0, 1.0, 1.2), 1.2, max_norm=0.5)


def test_relaxation_times():
    from heavytail_optax.dynamics._relaxation import relaxation_time

    times = [relaxation_time(FOUR, field) for field in range(4)]
    np.testing.assert_allclose(times, [0.096, 2.18, 0.87, 1.19], rtol=4e-3)
    well = DYNAMICS.quadratic(2.0, 0.3, INF)
    np.testing.assert_allclose(relaxation_time(well, 0), np.log(19.0) / 2.0)
