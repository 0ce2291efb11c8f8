"""The command `heavytail reproduce`."""

import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Literal

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.machine import THIS_MACHINE, Machine, run_options
from heavytail_optax.experiments.presets import PRESETS, PresetName
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.settings_parser import (
    DIVERGED,
    description,
    preset_of,
)

_GRIDS = pathlib.Path("grids")
_DEFAULT: PresetName = "corrupted-digits-short"


@dataclasses.dataclass(frozen=True)
class ReproduceCommand:
    """Train with each method and several seeds, measure, and make the paper's table.

    Without options: all methods of the paper on handwritten digits, in a few minutes.
    What is done is skipped, so that the same command goes on after Ctrl-C or a kill, and
    with more --methods or --seeds adds to what is there. heavytail report DIRECTORY
    shows the table at any time.

    Attributes:
      preset: The task, and where all settings come from that are not given.
      seeds: Number of seeds, from --seed on. A run each, for each method.
      directory: Directory of the grid of runs. By default grids/PRESET.
      launcher: Where the runs are carried out: here, one after the other, or as jobs of
        submitit, on SLURM or (--cluster local) as processes of this host.
      cluster: For submitit: slurm or local. By default slurm where it is found.
      jobs_at_once: For submitit: number of jobs at the same time.
      job_minutes: For submitit: time limit of a job. What a job did not come to is gone
        on with by the same command.
      partition: For submitit on SLURM: the partition.
      gpus_per_job: For submitit on SLURM: number of GPUs of a job.
      cpus_per_job: For submitit on SLURM: number of CPU cores of a job.
    """

    settings: Settings
    preset: PresetName = _DEFAULT
    seeds: int = 2
    directory: pathlib.Path | None = None
    machine: Machine = THIS_MACHINE
    launcher: Literal["here", "submitit"] = "here"
    cluster: Literal["slurm", "local"] | None = None
    jobs_at_once: int = 4
    job_minutes: int = 240
    partition: str | None = None
    gpus_per_job: int = 0
    cpus_per_job: int = 2

    def __post_init__(self) -> None:
        for name in ("seeds", "jobs_at_once", "job_minutes", "cpus_per_job"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(
                    f"The `{name}` option must be a positive integer. Got {value!r} "
                    "instead."
                )
        if self.gpus_per_job < 0:
            raise ValueError(
                "The `gpus_per_job` option must be an integer of at least 0. Got "
                f"{self.gpus_per_job!r} instead."
            )


def run(arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail reproduce` and runs it.

    Args:
      arguments: what follows `heavytail reproduce`.
      program: how the command was called, for messages: "heavytail".

    Returns:
      The exit status: 0 if every run came to its last step, 1 if the grid could not
      start or a job failed, 3 if all is done but a run diverged, 128 + the signal's
      number if it was interrupted.

    Raises:
      SystemExit: for --help, and for arguments that are not understood.
    """
    command = _parse(_with_preset_option(arguments), f"{program} reproduce")
    try:
        return _reproduce(command, arguments, program)
    except JobError as error:
        print(error, file=sys.stderr)
        return 1


def _with_preset_option(arguments: Sequence[str]) -> list[str]:
    """Takes a first word that is no option for the preset."""
    if arguments and not arguments[0].startswith("-"):
        return ["--preset", *arguments]
    return list(arguments)


def _parse(arguments: Sequence[str], program: str) -> ReproduceCommand:
    import tyro

    preset = preset_of(arguments, _DEFAULT)
    return tyro.cli(
        ReproduceCommand,
        prog=program,
        args=arguments,
        default=ReproduceCommand(settings=PRESETS[preset].settings, preset=preset),
        description=description(ReproduceCommand, "run"),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
    )


def _reproduce(
    command: ReproduceCommand, arguments: Sequence[str], program: str
) -> int:
    # These load JAX, Flax, Orbax and Matplotlib, which takes seconds.
    from rich.console import Console

    from heavytail_optax.experiments.cell import run_cell
    from heavytail_optax.experiments.grid import is_done, open_grid, read_cell
    from heavytail_optax.experiments.report_command import show_report
    from heavytail_optax.experiments.session import open_session

    directory = command.directory or _GRIDS / command.preset
    typed = shlex.join([*program.split(), "reproduce", *arguments])
    console = Console()
    settings = command.settings
    grid = open_grid(directory, command.preset, settings, command.seeds)
    cells = [cell for cell in grid.cells() if not is_done(cell)]
    total = len(grid.methods) * len(grid.seeds)
    with open_session(console, settings.steps) as session:
        session.progress.note(
            f"{command.preset}: {len(grid.methods)} methods, {len(grid.seeds)} seeds; "
            f"{total - len(cells)} of {total} runs are done. Results go to {directory}."
        )
        if command.launcher == "submitit" and cells:
            from heavytail_optax.experiments.launcher import launch

            launch(command, grid, cells, typed, session)
        elif cells:
            options = run_options(command.machine)
            for cell in cells:
                run_cell(
                    cell,
                    command.preset,
                    typed,
                    session.progress,
                    session.stop.is_set,
                    command.machine.data_dir,
                    options,
                )
                if session.stop.is_set():
                    break
        stop = session.stop
    show_report(directory, console)
    results = [read_cell(cell) for cell in grid.cells()]
    if stop.is_set():
        console.print(f"To go on: {typed}", highlight=False, soft_wrap=True)
        return stop.exit_status
    if not all(is_done(cell) for cell in grid.cells()):
        return 1
    return DIVERGED if any(r.status == "diverged" for r in results) else 0
