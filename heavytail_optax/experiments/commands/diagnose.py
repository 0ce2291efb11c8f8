"""`heavytail diagnose`: whether the noise of the gradients is heavy-tailed."""

import functools
import itertools
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console

from ..data.dataset import Dataset
from ..errors import USAGE, JobError, StoppedError
from ..files import set_aside_damaged
from ..flat_settings import replaced
from ..measures.gradient_noise import (
    NoiseDraws,
    assess_noise,
    measure_gradient_noise,
    noise_arguments,
    read_noise,
    write_noise,
)
from ..presets import PRESETS
from ..report import noise
from ..runs.grid import Grid, Run, record_grid, remarks, variants_of
from ..runs.result import RunResult
from ..runs.run import cached_loader
from ..runs.worker import report_problems, work
from ..settings import Settings
from ..storage.run_directory import claim_next
from ..terminal import Progress
from .finished_runs import Measuring, Results, measure_finished
from .options import DiagnoseOptions

_PRESET = "corrupted-digits-short"  # of the new run


def run(options: DiagnoseOptions, typed: str) -> int:
    """Measures the noise of the runs of a directory; the exit status."""
    directory = options.directory
    if directory is None:
        _check_batch_size(options, _new_run(options).data.training_examples)
        directory = claim_next(pathlib.Path("runs"), "diagnose")
        # What goes on with the run has its steps.
        typed = f"{_without_steps(typed)} {shlex.quote(str(directory))}"
        if status := _train(options, directory, typed):
            return status

    def arguments_of(run: Run) -> dict[str, int]:
        _check_batch_size(options, run.settings.data.training_examples)
        return noise_arguments(run.settings, options.draws, options.batch_size)

    def path_of(run: Run) -> pathlib.Path:
        return run.paths.noise_of(**arguments_of(run))

    def measure(run: Run, dataset: Dataset, params: Any, progress: Progress) -> bool:
        arguments = arguments_of(run)
        tick = functools.partial(progress.measuring, run.label, "gradient noise")
        of_run = run.settings, params, dataset.train, dataset.num_classes
        found = measure_gradient_noise(*of_run, arguments, tick)
        if found is None:
            return False
        tick(1, 1)
        path = path_of(run)
        if path.exists() and read_noise(path) is None:
            damaged = set_aside_damaged(path)
            progress.note(f"{path} could not be read. It is kept as {damaged}.")
        write_noise(path, found)
        return True

    def results(
        found: Sequence[_Noise], width: int, progress: Progress
    ) -> Results | None:
        def tick(label: str, done: int, total: int) -> None:
            if progress.measuring(label, "tails of the noise", done, total):
                raise StoppedError(
                    "Stopped while tails were fitted. The noise is kept: the same "
                    "command goes on.",
                    exit_status=progress.stop.exit_status,
                )

        runs = []
        for run, result, draws in found:
            if draws is not None:
                size = arguments_of(run)["batch_size"]
                tails = assess_noise(draws, functools.partial(tick, run.label))
                share = options.truncated_share
                of_run = run, result.history, size, draws
                runs.append(noise.diagnosed(*of_run, tails, share))
        if not runs:
            return None
        printed = [noise.noise_report(each, width) for each in runs]
        return Results(printed, noise.noise_values(runs), runs, noise.draw_noise)

    measuring = Measuring(
        name="diagnose",
        on_stop="Stopping after these batches.",
        forget=lambda run: path_of(run).unlink(missing_ok=True),
        known=lambda run, result: _Noise(run, result, read_noise(path_of(run))),
        is_measured=lambda found: found.draws is not None,
        remarks=lambda _: (),
        measure=measure,
        results=results,
    )
    return measure_finished(
        measuring, options.asked, directory, typed, not options.no_cache
    )


class _Noise(NamedTuple):
    """A finished run, and its noise if that has been measured."""

    run: Run
    result: RunResult
    draws: NoiseDraws | None


def _without_steps(typed: str) -> str:
    words = shlex.split(typed)
    kept = [
        word
        for before, word in itertools.pairwise(["", *words])
        if before != "--steps" and word != "--steps" and not word.startswith("--steps=")
    ]
    return shlex.join(kept)


def _check_batch_size(options: DiagnoseOptions, images: int) -> None:
    if options.batch_size is not None and options.batch_size > images:
        raise JobError(
            f"The `batch_size` option must be at most {images}, the number of "
            f"training images. Got {options.batch_size} instead.",
            exit_status=USAGE,
        )


def _new_run(options: DiagnoseOptions) -> Settings:
    return replaced(PRESETS[_PRESET].settings, steps=options.steps)


def _train(options: DiagnoseOptions, directory: pathlib.Path, typed: str) -> int:
    """A run of SGD on the digits, as of `heavytail train`; the exit status."""
    settings = _new_run(options)
    variants = variants_of(settings, ("sgd",))
    grid = Grid(directory, _PRESET, variants, (settings.seed,), is_measured=False)
    record_grid(grid)
    with Progress(Console()) as progress:
        for line in remarks(grid):
            progress.note(line)
        done = work(grid, typed, progress, cached_loader(None))
    go_on = (
        f"{typed.partition(' diagnose')[0]} train --resume {directory}, then {typed}"
    )
    return report_problems(done, go_on, progress)
