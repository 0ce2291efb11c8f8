"""`heavytail diagnose`: whether the noise of the gradients is heavy-tailed."""

import pathlib
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from ..data.dataset import Dataset
from ..errors import JobError
from ..measures.gradient_noise import (
    ask_noise_again,
    is_noise_measured,
    measure_gradient_noise,
    noise_arguments,
    read_noise,
    write_noise,
)
from ..presets import PRESETS
from ..report import noise
from ..runs.grid import Grid, Run, record_grid, variants_of
from ..runs.options import Machine
from ..runs.run import cached_loader
from ..runs.worker import report_problems, work
from ..settings import replaced
from ..storage.durable_files import set_aside_damaged
from ..storage.run_directory import claim_next
from ..terminal import Progress
from .finished_runs import Measuring, Results, measure_finished
from .options import DiagnoseOptions


def run(options: DiagnoseOptions, typed: str) -> int:
    """Measures the noise of the runs of a directory; the exit status."""
    directory = options.directory
    if directory is None:
        directory = claim_next(pathlib.Path("runs"), "diagnose")
        typed += f" {directory}"
        status = _train(options, directory, typed)
        if status:
            return status

    def kept_as(run: Run) -> tuple[dict[str, int], pathlib.Path]:
        """What the noise of a run is measured with, and the file for it."""
        arguments = noise_arguments(run.settings, options.draws, options.batch_size)
        return arguments, run.paths.noise_of(**arguments)

    def is_measured(run: Run) -> bool:
        arguments, path = kept_as(run)
        return is_noise_measured(path, arguments)

    def measure(run: Run, dataset: Dataset, params: Any, progress: Progress) -> bool:
        arguments, path = kept_as(run)
        images = dataset.train.labels.size
        if arguments["batch_size"] > images:
            raise JobError(
                f"The `batch_size` option must be at most {images}, the number of "
                f"training images. Got {arguments['batch_size']} instead."
            )

        def tick(done: int, total: int) -> bool:
            progress.measuring(run.label, "gradient noise", done, total)
            return progress.stop.is_set()

        draws = measure_gradient_noise(
            run.settings, params, dataset.train, dataset.num_classes, arguments, tick
        )
        if draws is None:
            return False
        progress.measuring(run.label, "gradient noise", 1, 1)
        if path.exists() and read_noise(path) is None:
            damaged = set_aside_damaged(path)
            progress.note(f"{path} could not be read. It is kept as {damaged}.")
        write_noise(path, draws, arguments)
        return True

    def results(asked: Sequence[Run], width: int) -> Results | None:
        draws, share = options.draws, options.truncated_share
        runs = noise.diagnosed_runs(asked, draws, options.batch_size, share)
        if not runs:
            return None
        printed = [noise.noise_report(each, width) for each in runs]
        csv = noise.noise_values(runs).to_csv(index=False)
        return Results(printed, csv, runs, noise.draw_noise)

    measuring = Measuring(
        name="diagnose",
        on_stop="Stopping after these batches.",
        ask_again=lambda run: ask_noise_again(kept_as(run)[1]),
        is_measured=is_measured,
        measure=measure,
        results=results,
    )
    return measure_finished(measuring, options.asked, directory, typed)


def _train(options: DiagnoseOptions, directory: pathlib.Path, typed: str) -> int:
    """A run of SGD on the digits, as of `heavytail train`; the exit status."""
    preset = PRESETS["corrupted-digits-short"]
    settings = replaced(preset.settings, steps=options.steps)
    machine = Machine(options.asked.data_dir)
    variants = variants_of(settings, ("sgd",))
    grid = Grid(directory, preset.name, variants, (settings.seed,), False, machine)
    record_grid(grid)
    with Progress(Console()) as progress:
        done = work(grid, typed, progress, cached_loader(options.asked.data_dir))
    program = typed.partition(" diagnose")[0]
    return report_problems(
        done, f"{program} train --resume {directory}, then {typed}", progress
    )
