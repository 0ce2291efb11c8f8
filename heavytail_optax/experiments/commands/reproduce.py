"""The command `heavytail reproduce`."""

import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

from heavytail_optax.experiments.commands.settings_parser import (
    description,
    options_ahead,
    parse,
    preset_of,
    with_preset_option,
)
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.methods import MethodName
from heavytail_optax.experiments.presets import PRESETS, PresetName
from heavytail_optax.experiments.runs.grid import (
    Grid,
    read_grid,
    record_grid,
    together,
    variants_of,
)
from heavytail_optax.experiments.runs.options import (
    THIS_MACHINE,
    Machine,
    find_devices,
)
from heavytail_optax.experiments.runs.submitit_workers import (
    DEFAULT_JOBS,
    JobOptions,
    find_cluster,
    launch,
)
from heavytail_optax.experiments.setting_rules import at_least, check_fields
from heavytail_optax.experiments.settings import Settings, replaced

_GRIDS = pathlib.Path("grids")
_DEFAULT: PresetName = "corrupted-digits-short"
_EXIT_STATUS = (
    "0 if every run is done (one that diverged is, and stands in the table) or is in the "
    "hands of another process, 1 if the grid could not start or a run failed, 2 for bad "
    "options"
)


@dataclasses.dataclass(frozen=True)
class ReproduceCommand:
    """Train with each method and several seeds, measure, and make the paper's table.

    Without options: all methods of the paper on handwritten digits, in a few minutes.
    What is done is skipped, so that the same command goes on after Ctrl-C or a kill, and
    with more --methods or --seeds adds to what is there. --data-dir, --devices and
    --tensorboard are then those of the last time, where they are not given again. Started
    several times at once, it shares the runs. heavytail report DIRECTORY shows the table at
    any time. The preset may also be given as the first word.

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
        # What a method cannot be trained with is refused before any work.
        variants_of(self.settings, self.methods)
        # Every seed must be one, and the last may be too large.
        replaced(self.settings, seed=self.settings.seed + self.seeds - 1)

    @property
    def grid_directory(self) -> pathlib.Path:
        """The directory of the grid."""
        return self.directory or _GRIDS / self.preset


def run(arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail reproduce` and runs it."""
    command = _parse(with_preset_option(arguments), f"{program} reproduce")
    try:
        return _reproduce(command, arguments, program)
    except JobError as error:
        print(error, file=sys.stderr)
        return 1


def _parse(arguments: Sequence[str], program: str) -> ReproduceCommand:
    preset = preset_of(arguments, _DEFAULT)
    directory = options_ahead(arguments, ["directory"])["directory"]
    place = _GRIDS / preset if directory is None else pathlib.Path(directory)
    return parse(
        ReproduceCommand,
        arguments,
        program,
        description(ReproduceCommand, "run", _EXIT_STATUS),
        default=ReproduceCommand(
            PRESETS[preset].settings,
            PRESETS[preset].methods,
            preset,
            machine=_machine_at(place),
        ),
    )


def _machine_at(directory: pathlib.Path) -> Machine:
    """That of the grid which is there; one that cannot be read is told of later."""
    try:
        return read_grid(directory).machine
    except JobError:
        return THIS_MACHINE


def _reproduce(
    command: ReproduceCommand, arguments: Sequence[str], program: str
) -> int:
    by_submitit = command.launcher == "submitit"
    cluster = find_cluster(command.jobs.cluster) if by_submitit else None
    # These load JAX, Flax and Matplotlib, which takes seconds.
    import jax
    from rich.console import Console

    from heavytail_optax.experiments.commands.report import show_report
    from heavytail_optax.experiments.runs.carry_out import cached_loader
    from heavytail_optax.experiments.runs.result import read_result
    from heavytail_optax.experiments.runs.worker import work
    from heavytail_optax.experiments.terminal.session import open_session

    if by_submitit:
        # A GPU is for the jobs.
        jax.config.update("jax_platforms", "cpu")
    typed = shlex.join([*program.split(), "reproduce", *arguments])
    console = Console()
    settings = command.settings
    grid = Grid(
        command.grid_directory,
        command.preset,
        variants_of(settings, command.methods),
        tuple(range(settings.seed, settings.seed + command.seeds)),
        is_measured=True,
        machine=command.machine,
    )
    together(grid)
    done = [read_result(run).is_done for run in grid.runs()]
    load = cached_loader(command.machine.data_dir)
    if not all(done):
        load(settings)
    # The devices are those of the jobs' hosts.
    here = dataclasses.replace(command.machine, devices=None)
    options = find_devices(here if by_submitit else command.machine)
    record_grid(grid)
    on_stop = "Stopping." if by_submitit else "Stopping after these steps."
    with open_session(console, settings.training.steps, False, on_stop) as session:
        session.progress.note(
            f"{command.preset}: {_counted(len(command.methods), 'method')}, "
            f"{_counted(command.seeds, 'seed')}; {sum(done)} of {len(done)} runs are "
            f"done. Results go to {grid.directory}."
        )
        if cluster is not None and not all(done):
            launch(grid, typed, session, command.jobs, cluster)
        # After the jobs of submitit there is nothing left but what they could not do.
        work_left = None if cluster else work(grid, typed, session, load, options)
        stop = session.stop
    try:
        show_report(grid.directory, console)
    except OSError as error:
        raise JobError(
            f"The report cannot be written to {grid.directory}: {error.strerror}."
        ) from error
    results = {run: read_result(run) for run in grid.runs()}
    failed = {} if work_left is None else work_left.failed
    busy = [] if work_left is None else work_left.busy
    left = [run for run, result in results.items() if not result.is_done]
    for run in left:
        if run in failed:
            print(f"{run.label}: {failed[run]}", file=sys.stderr)
    if not left:
        return 0
    if set(left) <= set(busy):
        names = ", ".join(run.label for run in left)
        console.print(f"Other processes are at work on: {names}.", highlight=False)
        return 0
    console.print(f"To go on: {typed}", highlight=False, soft_wrap=True)
    return stop.exit_status or 1


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
