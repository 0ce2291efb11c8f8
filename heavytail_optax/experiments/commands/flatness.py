"""`heavytail flatness`: how flat the solutions of finished runs are."""

from collections.abc import Sequence
from typing import Any

from ..data.dataset import Dataset
from ..report import flatness
from ..report.flatness import MeasuredRun
from ..runs.grid import Run
from ..runs.measuring import (
    forget,
    measure_run,
    measured_otherwise,
    trained_network,
)
from ..terminal import Progress
from .finished_runs import Measuring, Results, measure_finished
from .options import FlatnessOptions


def run(options: FlatnessOptions, typed: str) -> int:
    """Measures the runs of a directory; the exit status."""
    names, chosen = options.measures, options.measuring

    def measure(run: Run, dataset: Dataset, params: Any, progress: Progress) -> bool:
        classes = dataset.num_classes
        network = trained_network(run.settings, params, dataset.train, classes)
        return measure_run(run, network, chosen, names, progress)

    def remarks(each: MeasuredRun) -> list[str]:
        record = each.result.record
        return measured_otherwise(each.run.settings, record, chosen, names)

    def results(
        found: Sequence[MeasuredRun], width: int, progress: Progress
    ) -> Results | None:
        del progress
        runs = [each for each in found if each.result.record]
        if not runs:
            return None
        values = flatness.flatness_values(runs)
        table = flatness.flatness_table(runs, values, width)
        return Results([table], values, runs, flatness.draw_flatness)

    measuring = Measuring(
        name="flatness",
        on_stop="Stopping after this measure.",
        forget=lambda run: forget(run, names),
        known=MeasuredRun,
        is_measured=lambda each: set(names) <= set(each.result.record),
        remarks=remarks,
        measure=measure,
        results=results,
    )
    return measure_finished(
        measuring, options.asked, options.directory, typed, not options.no_cache
    )
