"""`heavytail reproduce`: a grid of methods and seeds, and its report."""

import dataclasses

import jax
from rich.console import Console

from ..data.dataset import checksum_of
from ..runs.grid import Grid, read_grid, record_grid, remarks, together, variants_of
from ..runs.result import read_results
from ..runs.run import cached_loader, check_machine
from ..runs.worker import Work, report_problems, work
from ..terminal import Progress
from .options import ReproduceOptions
from .report import show_report


def run(options: ReproduceOptions, typed: str) -> int:
    """Trains and measures what is left, and shows the report; the exit status."""
    cluster, machine = None, options.machine
    if options.launcher == "submitit":
        # submitit changes how the whole process logs.
        from ..runs import submitit_workers

        cluster = submitit_workers.find_cluster(options.jobs.cluster)
        # GPUs are for the jobs, and so are the devices.
        jax.config.update("jax_platforms", "cpu")
        machine = dataclasses.replace(machine, devices=None)
    first = options.settings.seed
    grid = Grid(
        options.grid_directory,
        options.preset,
        variants_of(options.settings, options.methods),
        tuple(range(first, first + options.num_seeds)),
        is_measured=True,
        machine=options.machine,
    )
    together(grid)
    known = read_results(grid)
    finished = [result.is_done for result in known.values()]
    is_finished = all(finished)
    console = Console()
    on_stop = "Stopping." if cluster else "Stopping after these steps."
    with Progress(console, on_stop) as progress:
        load = cached_loader(
            options.machine.data_dir, progress.reading, not options.no_cache
        )
        # What a finished grid was made with may be gone.
        before = read_grid(grid.directory).machine.record() if is_finished else {}
        now = options.machine.record()
        if now["data_dir"] != before.get("data_dir", ...):
            # The images must be those of the runs that are there.
            grid = grid._replace(data_sha256=checksum_of(load(options.settings)))
            together(grid)
        if now != before:
            check_machine(machine, options.settings.data)
        record_grid(grid)
        progress.note(
            f"{grid.preset}: {sum(finished)} of {len(finished)} runs are done (methods: "
            f"{len(grid.variants)}, seeds: {len(grid.seeds)}). Results go to "
            f"{grid.directory}."
        )
        for line in remarks(grid):
            progress.note(line)
        if cluster is None:
            done = work(grid, typed, progress, load, known)
        else:
            if not is_finished:
                worker = submitit_workers.Worker(
                    grid.anywhere(), typed, cluster, not options.no_cache
                )
                submitit_workers.launch(worker, known, progress, options.jobs)
                known = read_results(grid)
            done = Work(known, {}, [])
    try:
        show_report(grid.directory, console)
    finally:
        status = report_problems(done, typed, progress)
    return status
