"""The measured runs of a directory, as the table, the CSV and the figure show them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from heavytail_optax.experiments.measure_names import (
    MEASURE_NAMES,
    SCALARS,
)
from heavytail_optax.experiments.measures.record import Measured, read_record
from heavytail_optax.experiments.runs.grid import Run
from heavytail_optax.experiments.runs.result import RunResult, read_result


class MeasuredRun(NamedTuple):
    """A finished run with what has been measured of it, now or earlier."""

    result: RunResult
    record: Mapping[str, Measured]

    @property
    def label(self) -> str:
        """Method and seed."""
        return f"{self.result.label}, seed {self.result.seed}"

    def scalar(self, name: str) -> tuple[float, float | None] | None:
        """A value with its standard error; None if it was not measured."""
        for measured in self.record.values():
            if name in measured.outcome.scalars:
                return measured.outcome.scalars[name]
        return None

    def curve(self, name: str) -> Mapping[str, list[float]] | None:
        """The columns of a curve; None if it was not measured."""
        for measured in self.record.values():
            if name in measured.outcome.curves:
                return measured.outcome.curves[name]
        return None


def measured_runs(runs: Sequence[Run]) -> list[MeasuredRun]:
    """Those of the finished runs that have a measure, in their order."""
    found = [
        MeasuredRun(read_result(run), read_record(run.paths.measurements))
        for run in runs
    ]
    return [each for each in found if each.record]


def scalars_of(runs: Sequence[MeasuredRun]) -> list[str]:
    """Names of all scalars that any of the runs has."""
    return [
        scalar
        for name in MEASURE_NAMES
        if any(name in run.record for run in runs)
        for scalar in SCALARS[name]
    ]
