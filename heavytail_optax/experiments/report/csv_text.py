"""A report as CSV: one row a run, and one row a method.

Accuracies are from 0 to 1. What is not known is empty.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.report.rows import MethodRow, Report
from heavytail_optax.experiments.runs.result import RunResult

_RUN_FIELDS = (
    *("seed", "status", "step", "steps", "train_accuracy", "test_accuracy"),
    *("train_loss", "truncated", "seconds", "examples_per_step", "test_images"),
    "classes",
)


def runs_csv(report: Report) -> str:
    """One row a run, unrounded, those that failed or are missing included."""
    return _to_csv(
        [
            {
                **_names(row),
                **{name: getattr(cell, name) for name in _RUN_FIELDS},
                "failed": row.failed.get(cell.seed),
                **_run_sharpness(cell, report.measures),
            }
            for row in report.rows
            for cell in row.cells
        ]
    )


def summary_csv(report: Report) -> str:
    """One row a method, unrounded."""
    return _to_csv([_summary(row, report.measures) for row in report.rows])


def _summary(row: MethodRow, measures: Sequence[str]) -> dict[str, Any]:
    difference, paper = row.difference, row.paper
    interval = difference.interval if difference is not None else None
    low, high = interval or (None, None)
    values = {
        **_names(row),
        "seeds_asked": len(row.cells),
        "seeds_finished": len(row.finished),
        "unfinished": "; ".join(
            f"{cell.seed} {cell.how_it_ended}"
            for cell in row.cells
            if cell.status != "finished"
        ),
        "failed": "; ".join(f"{seed} {why}" for seed, why in row.failed.items()),
        "test_accuracy": row.test_accuracy.mean,
        "test_accuracy_standard_error": row.test_accuracy.standard_error,
        "paper_test_accuracy": paper and round(paper.test_accuracy / 100, 6),
        "difference_to_sgd": difference and difference.mean,
        "difference_to_sgd_standard_error": difference and difference.standard_error,
        "difference_to_sgd_low": low,
        "difference_to_sgd_high": high,
        "difference_to_sgd_seeds": difference and len(difference.seeds),
        "train_accuracy": row.train_accuracy.mean,
        "train_accuracy_standard_error": row.train_accuracy.standard_error,
        "examples_per_step": row.examples_per_step,
    }
    for measure in measures:
        found = row.sharpness[measure]
        values |= {
            measure: found.mean,
            f"{measure}_standard_error": found.standard_error,
            f"{measure}_seeds": found.count,
            f"paper_{measure}": paper and paper.sharpness.get(measure),
        }
    return values


def _names(row: MethodRow) -> dict[str, str | None]:
    return {"method": row.method, "paper_name": METHODS[row.method].paper_name}


def _run_sharpness(cell: RunResult, measures: Sequence[str]) -> dict[str, float | None]:
    values = {}
    for measure in measures:
        value, error = cell.sharpness.get(measure, (None, None))
        values |= {measure: value, f"{measure}_standard_error": error}
    return values


def _to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file.getvalue()
