"""Mean exit times, measured and by the theory."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from heavytail_optax import dynamics, tails
from heavytail_optax.laboratory.options import NoiseOptions

_PATIENCE = 30.0  # mean exit times by the theory after which a chain is censored


class ExitTime(NamedTuple):
    """The mean exit time from a field at one learning rate, in steps."""

    field: int
    learning_rate: float
    mean: float
    lower: float  # end of the 95 % interval
    upper: float
    theory: float  # 1 / (lambda q)
    epsilon: float  # the criterion; about 0.04 or less is asymptotic
    exits: int | None = None  # that were seen; None for the estimator
    censored: int = 0  # chains that had not left by the limit
    p_value: float | None = None  # of exponential times, if simulated and none censored

    @property
    def ratio(self) -> tuple[float, float, float]:
        """Measured over theory, with its interval."""
        low, high = self.lower / self.theory, self.upper / self.theory
        return self.mean / self.theory, low, high


def mean_interval(total: float, exits: int) -> tuple[float, float]:
    """The 95 % interval of a mean exponential time, from the time at risk."""
    low = 2.0 * total / scipy.stats.chi2.ppf(0.975, 2 * exits or 2)
    high = 2.0 * total / scipy.stats.chi2.ppf(0.025, 2 * exits) if exits else math.inf
    return float(low), float(high)


def simulated(
    rates: dynamics.ExitRates, field: int, learning_rate: float, seed: int, exits: int
) -> ExitTime:
    """Measures by simulation."""
    theory = float(rates.mean_exit_times(learning_rate)[field])
    found = dynamics.first_exit_times(
        rates.landscape,
        dynamics.sgd_process(learning_rate, rates.max_norm, rates.tail, rates.scale),
        field,
        key=seed,
        num_exits=exits,
        max_steps=int(min(max(1000.0, _PATIENCE * theory), 2**31 - 1)),
    )
    censored = int(found.is_censored.sum())
    low, high = mean_interval(float(found.times.sum()), found.num_exits)
    return ExitTime(
        field=field,
        learning_rate=learning_rate,
        mean=found.mean,
        lower=low,
        upper=high,
        theory=theory,
        epsilon=float(rates.criterion(learning_rate)[field]),
        exits=found.num_exits,
        censored=censored,
        p_value=None if censored else dynamics.exponential_p_value(found),
    )


def estimated(
    rates: dynamics.ExitRates, field: int, learning_rate: float, seed: int, samples: int
) -> ExitTime:
    """Estimates by importance sampling, at a cost that does not grow as eta falls."""
    found = estimated_rate(rates, field, learning_rate, seed, samples)
    lower = found.lower if found.lower > 0.0 else np.finfo(float).tiny
    return ExitTime(
        field=field,
        learning_rate=learning_rate,
        mean=found.mean_exit_time,
        lower=1.0 / found.upper,
        upper=1.0 / lower,
        theory=float(rates.mean_exit_times(learning_rate)[field]),
        epsilon=float(rates.criterion(learning_rate)[field]),
    )


def estimated_rate(
    rates: dynamics.ExitRates, field: int, learning_rate: float, seed: int, samples: int
) -> dynamics.RareExitRate:
    """The rate at which chains leave a field, by the rare-event estimator."""
    return dynamics.rare_exit_rate(
        rates.landscape,
        field,
        key=seed,
        tail=rates.tail,
        scale=rates.scale,
        learning_rate=learning_rate,
        max_norm=rates.max_norm,
        num_samples=samples,
    )


def measured_slope(times: Sequence[ExitTime]) -> tuple[float, float]:
    """The slope of log mean against log eta, and its standard error."""
    x = np.log([time.learning_rate for time in times])
    y = np.log([time.mean for time in times])
    errors = np.log([time.upper / time.lower for time in times]) / (2.0 * 1.96)
    weights = errors**-2.0
    centred = x - np.average(x, weights=weights)
    spread = np.sum(weights * centred**2)
    return float(np.sum(weights * centred * y) / spread), float(spread**-0.5)


def default_rates(noise: NoiseOptions) -> dynamics.ExitRates:
    """The theory of the landscape of four minima."""
    return dynamics.exit_rates(
        dynamics.four_minima(),
        tail=tails.symmetric_pareto(noise.alpha),
        scale=noise.noise_scale,
        max_norm=noise.max_norm,
    )
