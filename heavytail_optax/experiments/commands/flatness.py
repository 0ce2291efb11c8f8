"""`heavytail flatness`: how flat the solutions of finished runs are."""

import pathlib
from collections.abc import Sequence
from typing import Any

from ..data.dataset import Dataset
from ..measures.measure import read_record
from ..report import flatness, layers
from ..report.flatness import MeasuredRun
from ..runs.grid import Run
from ..runs.measuring import (
    forget,
    measure_layers,
    measure_run,
    measured_otherwise,
    trained_network,
)
from ..runs.result import RunResult
from ..terminal import Progress
from .finished_runs import Measuring, Results, measure_finished
from .options import FlatnessOptions


def run(options: FlatnessOptions, typed: str) -> int:
    """Measures the runs of a directory; the exit status."""
    names, chosen = options.asked_measures, options.measuring
    name, report, measure_it = "flatness", flatness, measure_run
    if options.by_layer:
        name, report, measure_it = "flatness_by_layer", layers, measure_layers

    def path_of(run: Run) -> pathlib.Path:
        return run.paths.layers if options.by_layer else run.paths.measurements

    def measure(run: Run, dataset: Dataset, params: Any, progress: Progress) -> bool:
        classes = dataset.num_classes
        network = trained_network(run.settings, params, dataset.train, classes)
        return measure_it(run, network, chosen, names, progress)

    def known(run: Run, result: RunResult) -> MeasuredRun:
        record = read_record(run.paths.layers) if options.by_layer else result.record
        return MeasuredRun(run, result, record)

    def remarks(each: MeasuredRun) -> list[str]:
        return measured_otherwise(each.run.settings, each.record, chosen, names)

    def results(
        found: Sequence[MeasuredRun], width: int, progress: Progress
    ) -> Results | None:
        del progress
        runs = [each for each in found if each.record]
        if not runs:
            return None
        values = report.values_of(runs)
        table = report.table_of(runs, values, width)
        return Results([table], values, runs, report.draw)

    measuring = Measuring(
        name=name,
        on_stop="Stopping after this measure.",
        forget=lambda run: forget(path_of(run), names),
        known=known,
        is_measured=lambda each: set(names) <= set(each.record),
        remarks=remarks,
        measure=measure,
        results=results,
    )
    return measure_finished(
        measuring, options.asked, options.directory, typed, not options.no_cache
    )
