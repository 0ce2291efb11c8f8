"""Mean exit times, measured and by the theory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from heavytail_optax import dynamics, tails


class ExitPoint(NamedTuple):
    """The mean exit time from a field at one learning rate.

    Attributes:
      field: index of the field.
      learning_rate: eta.
      mean: in steps.
      lower: end of its 95 % interval.
      upper: other end.
      theory: what the theory says, `1 / (lambda q)`.
      epsilon: the criterion; about .04 or less is asymptotic.
      exits: how many were seen; None for the estimator.
      censored: chains that had not left by the limit.
      p_value: of exponential exit times; None if some are censored, or not direct.
    """

    field: int
    learning_rate: float
    mean: float
    lower: float
    upper: float
    theory: float
    epsilon: float
    exits: int | None
    censored: int
    p_value: float | None

    @property
    def ratio(self) -> tuple[float, float, float]:
        """Measured over theory, with its interval."""
        low, high = self.lower / self.theory, self.upper / self.theory
        return self.mean / self.theory, low, high


def mean_interval(total: float, exits: int) -> tuple[float, float]:
    """The 95 % interval of a mean exponential time, from the time at risk.

    Example:
      >>> low, high = mean_interval(100.0, 10)
      >>> print(f"{low:.2f} {high:.2f}")
      5.85 20.85
    """
    low = 2.0 * total / scipy.stats.chi2.ppf(0.975, 2 * exits + 2)
    if exits == 0:
        return float(low), float("inf")
    return float(2.0 * total / scipy.stats.chi2.ppf(0.975, 2 * exits)), float(
        2.0 * total / scipy.stats.chi2.ppf(0.025, 2 * exits)
    )


def direct_point(
    rates: dynamics.ExitRates,
    field: int,
    learning_rate: float,
    *,
    seed: int,
    num_exits: int,
    patience: float = 30.0,
) -> ExitPoint:
    """Measures by simulation."""
    theory = float(rates.mean_exit_times(learning_rate)[field])
    process = dynamics.sgd_process(
        learning_rate, rates.max_norm, rates.tail, rates.scale
    )
    exits = dynamics.first_exit_times(
        rates.landscape,
        process,
        field,
        key=seed,
        num_exits=num_exits,
        max_steps=int(min(max(1000.0, patience * theory), 2**31 - 1)),
    )
    censored = int(exits.is_censored.sum())
    low, high = mean_interval(float(exits.times.sum()), exits.num_exits)
    p_value = None
    if not censored and num_exits >= 10:
        p_value = dynamics.exponential_p_value(exits)
    return ExitPoint(
        *(field, learning_rate, exits.mean, low, high, theory),
        float(rates.criterion(learning_rate)[field]),
        *(exits.num_exits, censored, p_value),
    )


def rare_point(
    rates: dynamics.ExitRates,
    field: int,
    learning_rate: float,
    *,
    seed: int,
    num_samples: int,
) -> ExitPoint:
    """Estimates by importance sampling, at a cost that does not grow as eta falls."""
    found = dynamics.rare_exit_rate(
        rates.landscape,
        field,
        key=seed,
        tail=rates.tail,
        scale=rates.scale,
        learning_rate=learning_rate,
        max_norm=rates.max_norm,
        num_samples=num_samples,
    )
    lower = found.lower if found.lower > 0.0 else np.finfo(float).tiny
    return ExitPoint(
        *(field, learning_rate, found.mean_exit_time, 1.0 / found.upper, 1.0 / lower),
        float(rates.mean_exit_times(learning_rate)[field]),
        float(rates.criterion(learning_rate)[field]),
        *(None, 0, None),
    )


def measured_slope(points: Sequence[ExitPoint]) -> tuple[float, float]:
    """The slope of log mean against log eta, and its standard error.

    Example:
      >>> point = ExitPoint(0, 1.0, 1.0, 0.8, 1.25, 1.0, 0.1, 100, 0, None)
      >>> slope, error = measured_slope(
      ...     [point, point._replace(learning_rate=0.1, mean=100.0, lower=80, upper=125)]
      ... )
      >>> print(f"{slope:.2f} {error:.2f}")
      -2.00 0.07
    """
    x = np.log([point.learning_rate for point in points])
    y = np.log([point.mean for point in points])
    errors = np.log([point.upper / point.lower for point in points]) / (2.0 * 1.96)
    weights = errors**-2.0
    centred = x - np.average(x, weights=weights)
    spread = np.sum(weights * centred**2)
    return float(np.sum(weights * centred * y) / spread), float(spread**-0.5)


def default_rates(alpha: float, scale: float, max_norm: float) -> dynamics.ExitRates:
    """The theory of the landscape of four minima."""
    return dynamics.exit_rates(
        dynamics.four_minima(),
        tail=tails.symmetric_pareto(alpha),
        scale=scale,
        max_norm=max_norm,
    )
