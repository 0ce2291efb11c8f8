"""`heavytail flatness`: how flat the solutions of finished runs are."""

from collections.abc import Sequence
from typing import Any

from ..data.dataset import Dataset
from ..measures.measure import read_record
from ..report import flatness, layers
from ..report.flatness import MeasuredRun
from ..report.layers import LayeredRun
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
    names, chosen, is_by_layer = (
        options.asked_measures,
        options.measuring,
        options.by_layer,
    )

    def measure(run: Run, dataset: Dataset, params: Any, progress: Progress) -> bool:
        classes = dataset.num_classes
        network = trained_network(run.settings, params, dataset.train, classes)
        measure_it = measure_layers if is_by_layer else measure_run
        return measure_it(run, network, chosen, names, progress)

    def known(run: Run, result: RunResult) -> MeasuredRun | LayeredRun:
        if is_by_layer:
            return LayeredRun(run, result, read_record(run.paths.layers))
        return MeasuredRun(run, result)

    def remarks(each: MeasuredRun | LayeredRun) -> list[str]:
        return measured_otherwise(each.run.settings, each.record, chosen, names)

    def results(
        found: Sequence[MeasuredRun | LayeredRun], width: int, progress: Progress
    ) -> Results | None:
        del progress
        if is_by_layer:
            own = [x for x in found if isinstance(x, LayeredRun) and x.record]
            if not own:
                return None
            values = layers.layer_values(own)
            table = layers.layer_table(own, values, width)
            return Results([table], values, own, layers.draw_layers)
        runs = [x for x in found if isinstance(x, MeasuredRun) and x.record]
        if not runs:
            return None
        values = flatness.flatness_values(runs)
        table = flatness.flatness_table(runs, values, width)
        return Results([table], values, runs, flatness.draw_flatness)

    measuring = Measuring(
        name="flatness_by_layer" if is_by_layer else "flatness",
        on_stop="Stopping after this measure.",
        forget=lambda run: forget(
            run.paths.layers if is_by_layer else run.paths.measurements, names
        ),
        known=known,
        is_measured=lambda each: set(names) <= set(each.record),
        remarks=remarks,
        measure=measure,
        results=results,
    )
    return measure_finished(
        measuring, options.asked, options.directory, typed, not options.no_cache
    )
