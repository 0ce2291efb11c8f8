"""The points of a report's picture."""

from typing import Literal, NamedTuple

from heavytail_optax.experiments.report.rows import MethodRow

Kind = Literal["run", "failed run", "mean", "paper"]


class Point(NamedTuple):
    """Accuracy in percent and sharpness above zero, with errors of at least zero."""

    kind: Kind
    sharpness: float
    accuracy: float
    sharpness_error: float = 0.0
    accuracy_error: float = 0.0


def points_of(row: MethodRow, measure: str) -> list[Point]:
    """The runs that finished, their mean as the table has it, and the paper's figures."""
    runs = _runs(row, measure)
    only = runs if len(runs) > 1 or not _means(row, measure) else []
    return [*only, *_means(row, measure), *_paper(row, measure)]


def _runs(row: MethodRow, measure: str) -> list[Point]:
    points = []
    for cell in row.finished:
        value, _ = cell.sharpness.get(measure, (0.0, None))
        if value > 0 and cell.test_accuracy is not None:
            kind = "failed run" if cell.seed in row.failed else "run"
            points.append(Point(kind, value, 100 * cell.test_accuracy))
    return points


def _means(row: MethodRow, measure: str) -> list[Point]:
    accuracy, sharpness = row.test_accuracy, row.sharpness[measure]
    if accuracy.mean is None or sharpness.mean is None or sharpness.mean <= 0:
        return []
    return [
        Point(
            "mean",
            sharpness.mean,
            100 * accuracy.mean,
            sharpness.standard_error or 0.0,
            100 * (accuracy.standard_error or 0.0),
        )
    ]


def _paper(row: MethodRow, measure: str) -> list[Point]:
    if row.paper is None or measure not in row.paper.sharpness:
        return []
    return [Point("paper", row.paper.sharpness[measure], row.paper.test_accuracy)]
