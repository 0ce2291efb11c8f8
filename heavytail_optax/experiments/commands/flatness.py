"""`heavytail flatness`: how flat the solutions of finished runs are."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from heavytail_optax.experiments.commands.finished_runs import (
    Measuring,
    measure_finished,
)
from heavytail_optax.experiments.commands.options import FlatnessOptions
from heavytail_optax.experiments.data.dataset import Dataset
from heavytail_optax.experiments.measures.measure_run import (
    ask_again,
    is_measured,
    measure_run,
    trained_network,
)
from heavytail_optax.experiments.report.flatness_figure import (
    first_seeds,
    plot_flatness,
)
from heavytail_optax.experiments.report.flatness_runs import measured_runs
from heavytail_optax.experiments.report.flatness_table import (
    flatness_csv,
    flatness_table,
)
from heavytail_optax.experiments.runs.grid import Run
from heavytail_optax.experiments.storage.durable_files import replace_file
from heavytail_optax.experiments.terminal.progress import Progress


def run(options: FlatnessOptions, typed: str) -> int:
    """Measures the runs of a directory; the exit status."""
    names, chosen = options.measures, options.measuring

    def measure(run: Run, dataset: Dataset, params: Any, progress: Progress) -> bool:
        classes = dataset.num_classes
        network = trained_network(run.settings, params, dataset.train, classes)
        place, stop = run.paths.measurements, progress.stop.is_set
        return measure_run(place, run.label, network, chosen, names, progress, stop)

    def show(asked: Sequence[Run], console: Console) -> None:
        runs = measured_runs(asked)
        if not runs:
            return
        console.print(flatness_table(runs, console.width))
        table = options.directory / "flatness.csv"
        picture = options.directory / "flatness.png"
        replace_file(table, flatness_csv(runs))
        written = [table]
        drawn = first_seeds(runs)
        if plot_flatness(picture, drawn):
            written.append(picture)
            if len(drawn) < len(runs):
                console.print("The picture has the first seed of each method.")
        for path in written:
            console.print(f"Written: {path}", highlight=False, soft_wrap=True)

    measuring = Measuring(
        on_stop="Stopping after this measure.",
        ask_again=lambda run: ask_again(run.paths.measurements, names),
        is_measured=lambda run: is_measured(
            run.paths.measurements, run.settings, chosen, names
        ),
        measure=measure,
        show=show,
    )
    return measure_finished(measuring, options, options.directory, typed)
