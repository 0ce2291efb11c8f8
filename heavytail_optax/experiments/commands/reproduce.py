"""The command `heavytail reproduce`."""

import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from heavytail_optax.experiments.commands.settings_parser import (
    description,
    parse,
    preset_of,
    with_preset_option,
)
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.methods import MethodName
from heavytail_optax.experiments.presets import PRESETS, PresetName
from heavytail_optax.experiments.runs.job_options import (
    DEFAULT_JOBS,
    JobOptions,
    find_cluster,
)
from heavytail_optax.experiments.runs.machine import THIS_MACHINE, Machine, run_options
from heavytail_optax.experiments.setting_rules import at_least, check_fields
from heavytail_optax.experiments.settings import Settings, replaced

if TYPE_CHECKING:
    from rich.console import Console

    from heavytail_optax.experiments.runs.grid_runner import Unfinished

_GRIDS = pathlib.Path("grids")
_DEFAULT: PresetName = "corrupted-digits-short"
_EXIT_STATUS = (
    "0 if every run is done (one that diverged is, and stands in the table), 1 if the "
    "grid could not start or a run failed, 2 for bad options"
)


@dataclasses.dataclass(frozen=True)
class ReproduceCommand:
    """Train with each method and several seeds, measure, and make the paper's table.

    Without options: all methods of the paper on handwritten digits, in a few minutes.
    What is done is skipped, so that the same command goes on after Ctrl-C or a kill, and
    with more --methods or --seeds adds to what is there. heavytail report DIRECTORY
    shows the table at any time. The preset may also be given as the first word.

    Attributes:
      methods: Train with each of these, from the same initial weights and through the same
        small batches. The list above says what each one does.
      preset: The task, and where all settings come from that are not given.
      seeds: Number of seeds, from --seed on. A run each, for each method.
      directory: Directory of the grid of runs. By default grids/PRESET.
      launcher: Where the runs are carried out: here, one after the other, or as jobs of
        submitit, on SLURM or as processes of this host.
    """

    settings: Settings
    methods: tuple[MethodName, ...]
    preset: PresetName = _DEFAULT
    seeds: Annotated[int, at_least(1)] = 2
    directory: pathlib.Path | None = None
    launcher: Literal["here", "submitit"] = "here"
    machine: Machine = THIS_MACHINE
    jobs: JobOptions = DEFAULT_JOBS

    def __post_init__(self) -> None:
        check_fields(self, "option")
        # Every seed must be one, and the last may be too large.
        replaced(self.settings, seed=self.settings.seed + self.seeds - 1)

    @property
    def grid_directory(self) -> pathlib.Path:
        """The directory of the grid."""
        return self.directory or _GRIDS / self.preset


def run(arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail reproduce` and runs it.

    Args:
      arguments: what follows `heavytail reproduce`.
      program: how the command was called, for messages: "heavytail".

    Returns:
      The exit status: 0 if every run is done, 1 if the grid could not start or a run
      failed, 128 + the signal's number if it was interrupted. A run that diverged is a
      result, and done.

    Raises:
      SystemExit: for --help, and for arguments that are not understood.
    """
    command = _parse(with_preset_option(arguments), f"{program} reproduce")
    try:
        return _reproduce(command, arguments, program)
    except JobError as error:
        print(error, file=sys.stderr)
        return 1


def _parse(arguments: Sequence[str], program: str) -> ReproduceCommand:
    preset = preset_of(arguments, _DEFAULT)
    return parse(
        ReproduceCommand,
        arguments,
        program,
        description(ReproduceCommand, "run", _EXIT_STATUS),
        default=ReproduceCommand(
            PRESETS[preset].settings, PRESETS[preset].methods, preset
        ),
    )


def _reproduce(
    command: ReproduceCommand, arguments: Sequence[str], program: str
) -> int:
    by_submitit = command.launcher == "submitit"
    cluster = find_cluster(command.jobs.cluster) if by_submitit else None
    # These load JAX, Flax, Orbax and Matplotlib, which takes seconds.
    import jax
    from rich.console import Console

    from heavytail_optax.experiments.runs.cell import data_loader
    from heavytail_optax.experiments.runs.grid import (
        check_grid,
        new_grid,
        read_cell,
        record_grid,
        unfinished,
    )
    from heavytail_optax.experiments.runs.grid_runner import run_here
    from heavytail_optax.experiments.terminal.session import open_session

    if by_submitit:
        # A GPU is for the jobs.
        jax.config.update("jax_platforms", "cpu")
    typed = shlex.join([*program.split(), "reproduce", *arguments])
    console = Console()
    settings, directory = command.settings, command.grid_directory
    grid = new_grid(directory, command.preset, settings, command.methods, command.seeds)
    check_grid(grid)
    cells = unfinished(grid)
    load = data_loader(command.machine.data_dir)
    if cells:
        load(cells[0].settings)
    # The devices are those of the jobs' hosts.
    here = dataclasses.replace(command.machine, devices=None)
    options = run_options(here if by_submitit else command.machine)
    record_grid(grid)
    on_stop = "Stopping." if by_submitit else "Stopping after these steps."
    with open_session(console, settings.training.steps, False, on_stop) as session:
        total = len(grid.methods) * len(grid.seeds)
        session.progress.note(
            f"{command.preset}: {_counted(len(grid.methods), 'method')}, "
            f"{_counted(len(grid.seeds), 'seed')}; {total - len(cells)} of {total} runs "
            f"are done. Results go to {directory}."
        )
        left: list[Unfinished] = []
        if cells and cluster is not None:
            from heavytail_optax.experiments.runs.launcher import launch

            left = launch(
                grid, cells, typed, session, command.machine, command.jobs, cluster
            )
        elif cells:
            left = run_here(grid, cells, typed, session, load, options)
        stop = session.stop
    _show_report(directory, console)
    for each in left:
        print(f"{each.cell.label}: {each.problem}", file=sys.stderr)
    is_stopped = stop.is_set() and bool(unfinished(grid))
    if left or is_stopped:
        console.print(f"To go on: {typed}", highlight=False, soft_wrap=True)
    if is_stopped:
        return stop.exit_status
    return 0 if all(read_cell(cell).is_done for cell in grid.cells()) else 1


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _show_report(directory: pathlib.Path, console: "Console") -> None:
    from heavytail_optax.experiments.commands.report import show_report

    try:
        show_report(directory, console)
    except OSError as error:
        raise JobError(
            f"The report cannot be written to {directory}: {error.strerror}."
        ) from error
