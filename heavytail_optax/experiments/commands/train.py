"""The command `heavytail train`."""

import dataclasses
import pathlib
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from heavytail_optax.experiments.commands.settings_parser import (
    description,
    options_ahead,
    parse,
    preset_of,
    with_preset_option,
)
from heavytail_optax.experiments.data import describe_dataset
from heavytail_optax.experiments.devices.cluster import (
    ALONE,
    Cluster,
    cluster_arguments,
    join_cluster,
)
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.methods import MethodName
from heavytail_optax.experiments.presets import PRESETS, PresetName
from heavytail_optax.experiments.runs.grid import Grid, read_grid, variants_of
from heavytail_optax.experiments.runs.options import (
    THIS_MACHINE,
    Machine,
    find_devices,
)
from heavytail_optax.experiments.setting_rules import check_fields
from heavytail_optax.experiments.settings import (
    Settings,
    changed_settings,
)
from heavytail_optax.experiments.storage.run_directory import (
    RunDirectoryError,
    claim,
    claim_next,
)
from heavytail_optax.experiments.storage.run_paths import plot_path

if TYPE_CHECKING:
    from rich.console import Console

    from heavytail_optax.experiments.runs.worker import Work

_RUNS = pathlib.Path("runs")
_DIVERGED = 3
_EXIT_STATUS = (
    "0 if every method came to its last step or is in the hands of another process, 1 if "
    f"nothing could start or a method failed, 2 for bad options, {_DIVERGED} if one diverged"
)


@dataclasses.dataclass(frozen=True)
class TrainCommand:
    """Train a network with each method; keep metrics, checkpoints and a picture.

    Without options: the LeNet on scikit-learn's handwritten digits, some of them with
    random labels, with SGD and with two kinds of truncated heavy-tailed SGD. Ctrl-C
    keeps what was done and says how to go on.

    Attributes:
      methods: Train with these, one after the other, from the same initial weights and
        through the same small batches. The list above says what each one does.
      preset: Where all settings come from that are not given.
      run_dir: Directory for the results, new or empty. By default the next free of
        runs/PRESET-001, runs/PRESET-002, ...
      resume: Directory of an earlier run, to go on where it stopped. Its settings are
        those it was started with, and so are --data-dir, --devices and --tensorboard
        where they are not given again.
    """

    settings: Settings
    methods: tuple[MethodName, ...]
    preset: PresetName = "corrupted-digits"
    run_dir: pathlib.Path | None = None
    resume: pathlib.Path | None = None
    machine: Machine = THIS_MACHINE
    cluster: Cluster = ALONE

    def __post_init__(self) -> None:
        check_fields(self, "option")
        # What a method cannot be trained with is refused before any work.
        variants_of(self.settings, self.methods)


def run(arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail train` and runs it."""
    try:
        command = _parse(with_preset_option(arguments), f"{program} train")
        _check_shared_directory(command)
        with join_cluster(command.cluster):
            return _train(command, arguments, program)
    except JobError as error:
        print(error, file=sys.stderr)
        return 1


def _parse(arguments: Sequence[str], program: str) -> TrainCommand:
    directory = options_ahead(arguments, ["resume"])["resume"]
    preset = preset_of(arguments, "corrupted-digits")
    default = TrainCommand(PRESETS[preset].settings, PRESETS[preset].methods, preset)
    if directory is not None:
        default = _as_started(read_grid(pathlib.Path(directory)))
    command = parse(
        TrainCommand,
        arguments,
        program,
        description(TrainCommand, "method", _EXIT_STATUS),
        default=default,
    )
    if directory is None:
        return command
    changed = []
    if command.run_dir is not None:
        changed.append("`run_dir` is given, which is for new runs")
    for name in ("preset", "methods"):
        then, now = getattr(default, name), getattr(command, name)
        if then != now:
            changed.append(f"`{name}` is {then!r} there and {now!r} here")
    changed += changed_settings(default.settings, command.settings)
    if changed:
        raise RunDirectoryError(
            f"The run in {directory} can only go on with the settings it was started "
            f"with, but {'; '.join(changed)}."
        )
    return command


def _as_started(grid: Grid) -> TrainCommand:
    """The command that a grid was started with."""
    runs = grid.runs()
    methods = tuple(dict.fromkeys(run.method for run in runs))
    return TrainCommand(runs[0].settings, methods, grid.preset, machine=grid.machine)


def _check_shared_directory(command: TrainCommand) -> None:
    if command.cluster.distributed and not (command.run_dir or command.resume):
        raise RunDirectoryError(
            "With --distributed a --run-dir (or --resume) is needed, which all "
            "processes share."
        )


def _train(command: TrainCommand, arguments: Sequence[str], program: str) -> int:
    # These load JAX, Flax and Matplotlib, which takes seconds.
    import jax
    from rich.console import Console

    from heavytail_optax.experiments.devices.parallel import connect
    from heavytail_optax.experiments.devices.processes import (
        differs_from_first,
        in_all_or_none,
        of_first_process,
    )
    from heavytail_optax.experiments.runs.carry_out import cached_loader
    from heavytail_optax.experiments.runs.grid import record_grid
    from heavytail_optax.experiments.runs.worker import work
    from heavytail_optax.experiments.terminal.session import open_session

    settings = command.settings
    typed = shlex.join([*program.split(), "train", *arguments])
    load = cached_loader(command.machine.data_dir)
    is_first = jax.process_index() == 0
    console = Console(quiet=not is_first)
    with open_session(console, settings.training.steps) as session:
        with in_all_or_none():
            options = find_devices(command.machine)
            dataset = load(settings)
            grid = _grid(command, is_first)
            if is_first:
                record_grid(grid)
        data = describe_dataset(dataset)
        is_other = differs_from_first(f"{grid.variants} {grid.seeds} {data}")
        with in_all_or_none():
            if is_other:
                raise JobError(
                    "The settings or the data of this process are not those of the "
                    "first one. Start all with the same options, on the same data."
                )
        connect(options.mesh)
        session.progress.note(_opening(command.preset, data, grid.directory))
        done = work(grid, typed, session, load, options)
        stop = session.stop
    if is_first:
        try:
            _show(done, grid, settings, dataset.test.labels.size, console)
        except OSError as error:
            raise JobError(
                f"The picture cannot be written to {grid.directory}: {error.strerror}."
            ) from error
    for run, problem in done.failed.items():
        print(f"{run.label}: {problem}", file=sys.stderr)
    if done.left or done.failed:
        resume = [*program.split(), "train", "--resume", str(grid.directory)]
        go_on = shlex.join([*resume, *cluster_arguments(command.cluster)])
        console.print(f"To go on: {go_on}", highlight=False, soft_wrap=True)
        if command.cluster.distributed:
            console.print("Run this in each process, with its own --process-id.")
    status = 1 if done.failed else 0
    if done.left:
        # Another process may have had the signal.
        status = stop.exit_status or 128 + signal.SIGINT
    if any(result.status == "diverged" for result in done.results.values()):
        status = status or _DIVERGED
    return of_first_process(status)


def _show(
    done: "Work", grid: Grid, settings: Settings, test_images: int, console: "Console"
) -> None:
    """The table and the picture of all runs, and who else is at work on them."""
    from heavytail_optax.experiments.report.style import save_figure
    from heavytail_optax.experiments.report.training import (
        draw_training,
        training_table,
    )

    results = list(done.results.values())
    console.print(training_table(results, test_images, console.width))
    drawn = [result for result in results if result.seed == grid.seeds[0]]
    if any(result.history for result in drawn):
        picture = plot_path(grid.directory)
        save_figure(draw_training(drawn, settings, test_images), picture)
        console.print(f"Picture: {picture}", highlight=False, soft_wrap=True)
    if done.busy:
        names = ", ".join(run.label for run in done.busy)
        console.print(f"Other processes are at work on: {names}.", highlight=False)


def _grid(command: TrainCommand, is_first: bool) -> Grid:
    """The runs of the command, in a directory that is claimed for them."""
    if command.resume is not None:
        grid = read_grid(command.resume)._replace(machine=command.machine)
        # Several processes train only: one alone measures, and keeps it.
        is_measured = grid.is_measured and not command.cluster.distributed
        return grid._replace(is_measured=is_measured)
    directory = command.run_dir or claim_next(_RUNS, command.preset)
    # The others do not look into it before the first one is done here.
    if is_first and command.run_dir is not None:
        claim(directory)
    return Grid(
        directory,
        command.preset,
        variants_of(command.settings, command.methods),
        (command.settings.seed,),
        is_measured=False,
        machine=command.machine,
    )


def _opening(
    preset: str, data: Mapping[str, int | str], directory: pathlib.Path
) -> str:
    return (
        f"{preset}: {data['train_images']:,} training images, "
        f"{data['wrong_train_labels']:,} of them with a wrong label; "
        f"{data['test_images']:,} test images. They are from: {data['source']}. Results "
        f"go to {directory}."
    )
