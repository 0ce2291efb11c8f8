"""The numbers of a report: one row a method, whatever form it is shown in."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from heavytail_optax.experiments.methods import (
    METHOD_NAMES,
    METHODS,
    MethodName,
)
from heavytail_optax.experiments.report.failed_runs import failed_runs
from heavytail_optax.experiments.report.paper_figures import PAPER_FIGURES, PaperFigures
from heavytail_optax.experiments.report.seed_statistics import (
    PairedDifference,
    SeedMean,
    mean_over_seeds,
    paired_difference,
    values_by_seed,
)
from heavytail_optax.experiments.runs.result import RunResult

REFERENCE: MethodName = "sgd"

_KNOWN_MEASURES = ("expected_sharpness", "pac_bayes_sharpness", "maximal_sharpness")


class MethodRow(NamedTuple):
    """What the runs of a method came to.

    Attributes:
      method: its name.
      cells: its runs, in the order of the seeds.
      test_accuracy: over the seeds that finished, from 0 to 1.
      train_accuracy: likewise.
      sharpness: measure -> likewise; every measure of the report.
      difference: of the test accuracies to those of the reference; None without a
        seed in common, and for the reference itself.
      examples_per_step: None if no run knows it.
      paper: what the paper's table says; None if nothing.
      failed: seed -> why a run that finished is no success; they are in the means.
    """

    method: MethodName
    cells: tuple[RunResult, ...]
    test_accuracy: SeedMean
    train_accuracy: SeedMean
    sharpness: Mapping[str, SeedMean]
    difference: PairedDifference | None
    examples_per_step: float | None
    paper: PaperFigures | None
    failed: Mapping[int, str]

    @property
    def label(self) -> str:
        """The method's name with that of the paper's tables."""
        return METHODS[self.method].label

    @property
    def finished(self) -> tuple[RunResult, ...]:
        """The runs that came to their last step."""
        return tuple(cell for cell in self.cells if cell.status == "finished")


class Report(NamedTuple):
    """All that a report shows."""

    preset: str
    rows: tuple[MethodRow, ...]  # in the order of `METHODS`
    measures: tuple[str, ...]  # of sharpness, those known to the paper first

    @property
    def has_reference(self) -> bool:
        """Whether a row has a difference to the reference."""
        return any(row.difference is not None for row in self.rows)

    @property
    def has_paper_figures(self) -> bool:
        """Whether a row has figures of the paper beside it."""
        return any(row.paper is not None for row in self.rows)


def build_report(preset: str, cells: Sequence[RunResult]) -> Report:
    """Sorts the runs into rows and takes the means."""
    measures = measures_of(cells)
    failed = failed_runs(cells)
    by_method = {
        method: tuple(
            sorted(
                (cell for cell in cells if cell.method == method),
                key=lambda cell: cell.seed,
            )
        )
        for method in METHOD_NAMES
    }
    accuracies = {
        method: values_by_seed(own, _test_accuracy) for method, own in by_method.items()
    }
    rows = tuple(
        MethodRow(
            method=method,
            cells=own,
            test_accuracy=mean_over_seeds(accuracies[method]),
            train_accuracy=mean_over_seeds(values_by_seed(own, _train_accuracy)),
            sharpness={measure: _sharpness(own, measure) for measure in measures},
            difference=None
            if method == REFERENCE
            else paired_difference(
                accuracies[method].values, accuracies[REFERENCE].values
            ),
            examples_per_step=next(
                (
                    cell.examples_per_step
                    for cell in own
                    if cell.examples_per_step is not None
                ),
                None,
            ),
            paper=PAPER_FIGURES.get((preset, method)),
            failed={
                cell.seed: failed[method, cell.seed]
                for cell in own
                if (method, cell.seed) in failed
            },
        )
        for method, own in by_method.items()
        if own
    )
    return Report(preset, rows, measures)


def measures_of(cells: Sequence[RunResult]) -> tuple[str, ...]:
    """The measures of sharpness that any run has, those known to the paper first."""
    found = dict.fromkeys(measure for cell in cells for measure in cell.sharpness)
    known = [measure for measure in _KNOWN_MEASURES if measure in found]
    return (*known, *(measure for measure in found if measure not in known))


def _sharpness(cells: Sequence[RunResult], measure: str) -> SeedMean:
    def value(cell: RunResult) -> float | None:
        return cell.sharpness[measure][0] if measure in cell.sharpness else None

    return mean_over_seeds(values_by_seed(cells, value))


def _test_accuracy(cell: RunResult) -> float | None:
    return cell.test_accuracy


def _train_accuracy(cell: RunResult) -> float | None:
    return cell.train_accuracy
