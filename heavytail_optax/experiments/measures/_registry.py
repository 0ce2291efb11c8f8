"""Name of a measure -> how to compute it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from heavytail_optax.experiments.measure_names import MeasureName
from heavytail_optax.experiments.measures._curvature import (
    density_arguments,
    eigenvalues_arguments,
    line_arguments,
    measure_density,
    measure_eigenvalues,
    measure_line,
    measure_trace,
    trace_arguments,
)
from heavytail_optax.experiments.measures._escape import (
    escape_arguments,
    measure_escape,
)
from heavytail_optax.experiments.measures._expected import (
    expected_arguments,
    measure_expected,
)
from heavytail_optax.experiments.measures._problem import (
    Arguments,
    Outcome,
    Problem,
    Tick,
)
from heavytail_optax.experiments.measures._searched import (
    maximal_arguments,
    measure_maximal,
    measure_pac_bayes,
    pac_bayes_arguments,
)
from heavytail_optax.experiments.measures.search import Search
from heavytail_optax.experiments.settings import Settings


class Measure(NamedTuple):
    """One measure of flatness.

    Attributes:
      arguments: all that the number depends on besides the run, as JSON-able values.
      measure: computes it with these; None if it was stopped.
    """

    arguments: Callable[[Settings, Search], Arguments]
    measure: Callable[[Problem, Arguments, Tick], Outcome | None]


def _at_once(
    measure: Callable[[Problem, Arguments], Outcome],
) -> Callable[[Problem, Arguments, Tick], Outcome | None]:
    def in_one_part(
        problem: Problem, arguments: Arguments, tick: Tick
    ) -> Outcome | None:
        return None if tick(0, 1) else measure(problem, arguments)

    return in_one_part


MEASURES: Mapping[MeasureName, Measure] = MappingProxyType(
    {
        "expected": Measure(expected_arguments, measure_expected),
        "pac-bayes": Measure(pac_bayes_arguments, _at_once(measure_pac_bayes)),
        "maximal": Measure(maximal_arguments, _at_once(measure_maximal)),
        "eigenvalues": Measure(eigenvalues_arguments, _at_once(measure_eigenvalues)),
        "trace": Measure(trace_arguments, _at_once(measure_trace)),
        "density": Measure(density_arguments, _at_once(measure_density)),
        "line": Measure(line_arguments, measure_line),
        "escape": Measure(escape_arguments, measure_escape),
    }
)
