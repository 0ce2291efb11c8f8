"""`heavytail flatness`: how flat the solutions of finished runs are."""

from collections.abc import Sequence
from typing import Any

from ..data.dataset import Dataset
from ..measures.measure_run import ask_again, is_measured, measure_run, trained_network
from ..report import flatness
from ..runs.grid import Run
from ..terminal import Progress
from .finished_runs import Measuring, Results, measure_finished
from .options import FlatnessOptions


def run(options: FlatnessOptions, typed: str) -> int:
    """Measures the runs of a directory; the exit status."""
    names, chosen = options.measures, options.measuring

    def measure(run: Run, dataset: Dataset, params: Any, progress: Progress) -> bool:
        classes = dataset.num_classes
        network = trained_network(run.settings, params, dataset.train, classes)
        place, stop = run.paths.measurements, progress.stop.is_set
        return measure_run(place, run.label, network, chosen, names, progress, stop)

    def results(asked: Sequence[Run], width: int) -> Results | None:
        runs = flatness.measured_runs(asked)
        if not runs:
            return None
        values = flatness.flatness_values(runs)
        table = flatness.flatness_table(runs, values, width)
        csv = values.to_csv(index=False)
        return Results([table], csv, runs, flatness.draw_flatness)

    measuring = Measuring(
        name="flatness",
        on_stop="Stopping after this measure.",
        ask_again=lambda run: ask_again(run.paths.measurements, names),
        is_measured=lambda run: is_measured(
            run.paths.measurements, run.settings, chosen, names
        ),
        measure=measure,
        results=results,
    )
    return measure_finished(measuring, options.asked, options.directory, typed)
