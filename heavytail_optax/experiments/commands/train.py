"""`heavytail train`: a grid with one seed, and its picture."""

import functools
import pathlib
import shlex
import signal
from collections.abc import Mapping

import jax
from rich.console import Console

from ..data.dataset import checksum_of, describe_dataset
from ..errors import USAGE, JobError
from ..parallel import (
    cluster_arguments,
    differs_from_first,
    fail_together,
    from_first_process,
    join_cluster,
    warm_up_collectives,
)
from ..report.style import save_figure
from ..report.training import draw_training, training_table
from ..runs.grid import Grid, read_grid, record_grid, remarks, variants_of
from ..runs.result import read_result
from ..runs.run import cached_loader, check_machine
from ..runs.worker import report_problems, work
from ..storage.run_directory import RunDirectoryError, claim, claim_next, grid_lock
from ..terminal import Progress
from .options import TrainOptions
from .parsing import error_as_typed

_DIVERGED = 3


def run(options: TrainOptions, typed: str) -> int:
    """Trains, and shows a table and a picture; the exit status."""
    if options.cluster.distributed and not (options.directory or options.resume):
        raise RunDirectoryError(
            "--distributed needs --directory or --resume, with a directory that all "
            "processes share.",
            exit_status=USAGE,
        )
    in_words = functools.partial(error_as_typed, kind=TrainOptions)
    with join_cluster(options.cluster, in_words):
        return _train(options, typed)


def _train(options: TrainOptions, typed: str) -> int:
    is_first = jax.process_index() == 0
    console = Console(quiet=not is_first)
    with Progress(console) as progress:
        load = cached_loader(
            options.machine.data_dir, progress.reading, not options.no_cache
        )
        with fail_together():
            check_machine(options.machine, options.settings.data)
            dataset = load(options.settings)
            grid = _grid(options, is_first)._replace(data_sha256=checksum_of(dataset))
            if is_first:
                record_grid(grid)
        data = describe_dataset(dataset)
        is_other = differs_from_first(f"{grid.variants} {grid.seeds} {data}")
        with fail_together():
            if is_other:
                raise JobError(
                    "The settings or the data of this process are not those of the "
                    "first one. Start all with the same options, on the same data.",
                    exit_status=USAGE,
                )
        warm_up_collectives(options.machine.mesh())
        drawn = options.settings.data.corrupted_examples
        for line in (_opening(grid, drawn, data), *remarks(grid)):
            progress.note(line)
        done = work(grid, typed, progress, load)
    # Without the options, which --resume has from the directory.
    program = typed.partition(" train")[0]
    resume = ["--resume", str(grid.directory), *cluster_arguments(options.cluster)]
    go_on = f"{program} train {shlex.join(resume)}"
    try:
        with fail_together():
            if is_first:
                _show(grid, dataset.test.labels.size, console)
    finally:
        status = report_problems(done, go_on, progress)
    if options.cluster.distributed and status:
        console.print("Run this in each process, with its own --process-id.")
    if done.left:
        # Another process may have had the signal.
        status = progress.stop.exit_status or 128 + signal.SIGINT
    if any(result.status == "diverged" for result in done.results.values()):
        status = status or _DIVERGED
    return from_first_process(status)


def _grid(options: TrainOptions, is_first: bool) -> Grid:
    """The runs of the command, in a directory that is claimed for them."""
    if options.resume is not None:
        grid = read_grid(options.resume)._replace(machine=options.machine)
        # Several processes train only: one alone measures, and keeps it.
        is_measured = grid.is_measured and not options.cluster.distributed
        return grid._replace(is_measured=is_measured)
    directory = options.directory or claim_next(pathlib.Path("runs"), options.preset)
    # The others do not look into it before the first one is done here.
    if is_first and options.directory is not None:
        claim(directory)
    return Grid(
        directory,
        options.preset,
        variants_of(options.settings, options.methods),
        (options.settings.seed,),
        is_measured=False,
        machine=options.machine,
    )


def _opening(grid: Grid, drawn: int, data: Mapping[str, int | str]) -> str:
    labels = ""
    if drawn:
        right = drawn - int(data["wrong_train_labels"])
        labels = (
            f", {drawn:,} with a label drawn at random ({right:,} of these are right)"
        )
    return (
        f"{grid.preset}: {data['train_images']:,} training images{labels}; "
        f"{data['test_images']:,} test images. They are from: {data['source']}. Results "
        f"go to {grid.directory}."
    )


def _show(grid: Grid, test_images: int, console: Console) -> None:
    """The table and the picture of all runs."""
    picture, settings = grid.directory / "training.png", grid.runs()[0].settings
    # Read under the lock, so that no process writes what is out of date.
    with grid_lock(grid.directory):
        results = [read_result(run) for run in grid.runs()]
        drawn = [result for result in results if result.seed == grid.seeds[0]]
        if any(result.history for result in drawn):
            save_figure(draw_training(drawn, settings, test_images), picture)
        elif not any(result.history for result in results):
            console.print("No run has been evaluated yet: there is no table to show.")
            return
    console.print(training_table(results, settings, test_images, console.width))
    if picture.exists():
        console.print(f"Picture: {picture}", highlight=False, soft_wrap=True)
