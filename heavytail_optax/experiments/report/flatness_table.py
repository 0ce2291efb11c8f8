"""The table of `heavytail flatness`, for the terminal and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from heavytail_optax.experiments.measure_names import (
    MEASURE_NAMES,
    SCALARS,
)
from heavytail_optax.experiments.report.columns import (
    NOTHING,
    Column,
    measure_heading,
)
from heavytail_optax.experiments.report.failed_runs import failed_runs
from heavytail_optax.experiments.report.flatness_runs import MeasuredRun, scalars_of
from heavytail_optax.experiments.report.notes import FAILED
from heavytail_optax.experiments.report.number_format import (
    format_percent,
    format_with_error,
)
from heavytail_optax.experiments.report.text_table import text_tables

_REMARK = "*"
_NO_BREAK = "\N{NO-BREAK SPACE}"


def flatness_table(runs: Sequence[MeasuredRun], width: int = 100) -> Group:
    """One row a run: accuracies beside every scalar, remarks below."""
    failed = failed_runs([run.result for run in runs])
    names = Column(
        ("Run",),
        tuple(
            run.label + (f"{_NO_BREAK}{FAILED}" if _key(run) in failed else "")
            for run in runs
        ),
    )
    train = Column(
        ("Train", "%"), tuple(_percent(run.result.train_accuracy) for run in runs)
    )
    test = Column(
        ("Test", "%"), tuple(_percent(run.result.test_accuracy) for run in runs)
    )
    blocks = [
        [Column(measure_heading(name), tuple(_text(run, name) for run in runs))]
        for name in scalars_of(runs)
    ]
    lead = [names, train, test]
    tables = text_tables(lead, lead, blocks, width)
    notes = [*_search_notes(runs), *_failed_notes(runs, failed), *_remarks(runs)]
    return Group(*tables, *(Text(note, style="dim") for note in notes))


def flatness_csv(runs: Sequence[MeasuredRun]) -> str:
    """One row a run, unrounded. What is not known is empty."""
    rows = [_row(run, scalars_of(runs)) for run in runs]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _row(run: MeasuredRun, scalars: Sequence[str]) -> dict[str, Any]:
    result = run.result
    values: dict[str, Any] = {
        "method": result.method,
        "seed": result.seed,
        "train_accuracy": result.train_accuracy,
        "test_accuracy": result.test_accuracy,
    }
    for name in scalars:
        value, error = run.scalar(name) or (None, None)
        values |= {name: value, f"{name}_standard_error": error}
    remarks = [
        f"{name}: {measured.outcome.remark}"
        for name, measured in run.record.items()
        if measured.outcome.remark
    ]
    return {**values, "remarks": "; ".join(remarks)}


def _key(run: MeasuredRun):
    return run.result.method, run.result.seed


def _percent(share: float | None) -> str:
    return NOTHING if share is None else format_percent(share)


def _text(run: MeasuredRun, name: str) -> str:
    found = run.scalar(name)
    if found is None:
        return NOTHING
    (measure,) = (each for each in MEASURE_NAMES if name in SCALARS[each])
    mark = f" {_REMARK}" if run.record[measure].outcome.remark else ""
    return format_with_error(*found) + mark


def _search_notes(runs: Sequence[MeasuredRun]) -> list[str]:
    """How each measure was computed, which decides about its numbers."""
    notes = [
        (
            "Value ± standard error of its own sampling, on the training images as they are "
            "labelled. All measures are larger where the minimum is sharper; a run that did "
            "not learn may look flat."
        )
    ]
    if any("escape" in run.record for run in runs):
        notes[0] += " Escape: share of paths that have left after the last jump."
    for name in MEASURE_NAMES:
        found = [run.record[name].arguments for run in runs if name in run.record]
        if any(each != found[0] for each in found):
            notes.append(
                f"{name}: the runs were not measured alike, and should not be compared: "
                f"{_differences(found)}. --again measures anew."
            )
    return notes


def _differences(found: Sequence[Mapping[str, Any]]) -> str:
    names = dict.fromkeys(name for each in found for name in each)
    values = {name: {each.get(name) for each in found} for name in names}
    return "; ".join(
        f"{name} {' or '.join(sorted(map(str, each)))}"
        for name, each in values.items()
        if len(each) > 1
    )


def _failed_notes(runs: Sequence[MeasuredRun], failed: Mapping[Any, str]) -> list[str]:
    found = [
        f"{run.label} ({failed[_key(run)]})" for run in runs if _key(run) in failed
    ]
    if not found:
        return []
    return [f"{FAILED} Did not learn the training images: {', '.join(found)}."]


def _remarks(runs: Sequence[MeasuredRun]) -> list[str]:
    return [
        f"{_REMARK} {run.label}, {name}: {run.record[name].outcome.remark}."
        for run in runs
        for name in MEASURE_NAMES
        if name in run.record and run.record[name].outcome.remark
    ]
