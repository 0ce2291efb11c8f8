"""Means over seeds and differences by seed, with their errors.

A run that did not finish, or a value that is not finite, enters no mean: it is kept
beside the mean under its seed, with the reason.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from heavytail_optax.experiments.runs.result import RunResult


class SeedValues(NamedTuple):
    """A quantity of one method's runs.

    Attributes:
      values: seed -> value, all finite.
      left_out: seed -> why it has no value.
    """

    values: Mapping[int, float]
    left_out: Mapping[int, str]


class SeedMean(NamedTuple):
    """A mean over seeds.

    Attributes:
      mean: None if there is no value.
      standard_error: `s / sqrt(n)` with `s` the standard deviation of divisor `n - 1`;
        None for fewer than two values.
      count: number of values, n.
      left_out: seed -> why it has no value.
    """

    mean: float | None
    standard_error: float | None
    count: int
    left_out: Mapping[int, str]


class PairedDifference(NamedTuple):
    """The mean over seeds of a method's value less another's.

    Attributes:
      mean: of the differences.
      standard_error: of this mean; None for fewer than two seeds.
      interval: of Student's t at the confidence asked for; None for fewer than two.
      seeds: for which both have a value.
      unpaired: seeds for which only one has.
    """

    mean: float
    standard_error: float | None
    interval: tuple[float, float] | None
    seeds: tuple[int, ...]
    unpaired: tuple[int, ...]


def values_by_seed(
    cells: Sequence[RunResult], quantity: Callable[[RunResult], float | None]
) -> SeedValues:
    """Takes a quantity from the runs that finished, and says why not from the others.

    Example:
      >>> from heavytail_optax.experiments.runs.result import RunResult
      >>> cells = [
      ...     RunResult("sgd", 0, "finished", 10, 10, test_accuracy=0.7),
      ...     RunResult("sgd", 1, "diverged", 4, 10, test_accuracy=0.1),
      ... ]
      >>> found = values_by_seed(cells, lambda cell: cell.test_accuracy)
      >>> found.values, found.left_out
      ({0: 0.7}, {1: 'diverged at step 4'})
    """
    values, left_out = {}, {}
    for cell in cells:
        if cell.seed in values or cell.seed in left_out:
            raise ValueError(f"The seed {cell.seed} of {cell.method} comes twice.")
        value = quantity(cell)
        if cell.status != "finished":
            left_out[cell.seed] = cell.how_it_ended
        elif value is None:
            left_out[cell.seed] = "not measured"
        elif not math.isfinite(value):
            left_out[cell.seed] = f"{value}"
        else:
            values[cell.seed] = value
    return SeedValues(values, left_out)


def mean_over_seeds(found: SeedValues) -> SeedMean:
    """The mean and its standard error.

    Example:
      >>> mean_over_seeds(SeedValues({0: 68.0, 1: 70.0, 2: 72.0}, {3: "missing"}))
      SeedMean(mean=70.0, standard_error=1.1547, count=3, left_out={3: 'missing'})
    """
    values = list(found.values.values())
    if not values:
        return SeedMean(None, None, 0, found.left_out)
    mean = statistics.fmean(values)
    return SeedMean(mean, _standard_error(values), len(values), found.left_out)


def paired_difference(
    values: Mapping[int, float],
    reference: Mapping[int, float],
    confidence: float = 0.95,
) -> PairedDifference | None:
    """The difference to another method, seed by seed.

    Runs of the same seed share initial weights, batches and random labels, so that the
    differences vary less than the values.

    Example:
      >>> found = paired_difference({0: 71.0, 1: 71.0, 2: 73.0}, {0: 70.0, 1: 69.0})
      >>> found.mean, found.standard_error, found.seeds, found.unpaired
      (1.5, 0.5, (0, 1), (2,))
    """
    from scipy import stats

    seeds = tuple(sorted(values.keys() & reference.keys()))
    if not seeds:
        return None
    differences = [values[seed] - reference[seed] for seed in seeds]
    mean, error = statistics.fmean(differences), _standard_error(differences)
    interval = None
    if error is not None:
        quantile = stats.t.ppf((1 + confidence) / 2, len(seeds) - 1)
        interval = (mean - float(quantile) * error, mean + float(quantile) * error)
    unpaired = tuple(sorted(values.keys() ^ reference.keys()))
    return PairedDifference(mean, error, interval, seeds, unpaired)


def _standard_error(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    return statistics.stdev(values) / math.sqrt(len(values))
