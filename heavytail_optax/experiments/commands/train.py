"""The command `heavytail train`."""

import contextlib
import dataclasses
import pathlib
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence

from heavytail_optax.experiments.commands.settings_parser import (
    description,
    options_ahead,
    parse,
    preset_of,
    with_preset_option,
)
from heavytail_optax.experiments.data import describe_dataset
from heavytail_optax.experiments.devices.cluster import ALONE, Cluster, join_cluster
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.methods import MethodName
from heavytail_optax.experiments.presets import PRESETS, PresetName
from heavytail_optax.experiments.runs.machine import THIS_MACHINE, Machine, run_options
from heavytail_optax.experiments.setting_rules import check_fields
from heavytail_optax.experiments.settings import (
    Settings,
    changed_settings,
    replaced,
)
from heavytail_optax.experiments.storage.run_directory import (
    RunDirectoryError,
    claim,
    claim_next,
    plot_path,
    read_config,
)

_RUNS = pathlib.Path("runs")
_DIVERGED = 3
_EXIT_STATUS = (
    "0 if every method came to its last step, 1 if the job could not start, 2 for bad "
    f"options, {_DIVERGED} if a method diverged"
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
        those it was started with.
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


def run(arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail train` and runs it.

    Args:
      arguments: what follows `heavytail train`.
      program: how the command was called, for messages: "heavytail".

    Returns:
      The exit status: 0 if every method came to its last step, 1 if the job could not
      start, 3 if it is done but a method diverged, 128 + the signal's number if it was
      interrupted.

    Raises:
      SystemExit: for --help, and for arguments that are not understood.
    """
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
    settings, methods = PRESETS[preset].settings, PRESETS[preset].methods
    if directory is not None:
        config = read_config(pathlib.Path(directory))
        preset, settings = config["preset"], config["settings"]
        methods = tuple(config["methods"])
    command = parse(
        TrainCommand,
        arguments,
        program,
        description(TrainCommand, "method", _EXIT_STATUS),
        default=TrainCommand(settings, methods, preset),
    )
    if directory is None:
        return command
    changed = changed_settings(settings, command.settings)
    if command.methods != methods:
        changed.insert(
            0, f"`methods` is {methods!r} there and {command.methods!r} here"
        )
    if command.preset != preset:
        changed.insert(0, f"`preset` is {preset!r} there and {command.preset!r} here")
    if command.run_dir is not None:
        changed.insert(0, "`run_dir` is given, which is for new runs")
    if changed:
        raise RunDirectoryError(
            f"The run in {directory} can only go on with the settings it was started "
            f"with, but {'; '.join(changed)}."
        )
    return command


def _check_shared_directory(command: TrainCommand) -> None:
    if command.cluster.distributed and not (command.run_dir or command.resume):
        raise RunDirectoryError(
            "With --distributed a --run-dir (or --resume) is needed, which all "
            "processes share."
        )


def _train(command: TrainCommand, arguments: Sequence[str], program: str) -> int:
    # These load JAX, Flax, Orbax and Matplotlib, which takes seconds.
    import jax
    from rich.console import Console

    from heavytail_optax.experiments.devices.parallel import connect
    from heavytail_optax.experiments.devices.processes import (
        differs_from_first,
        in_all_or_none,
    )
    from heavytail_optax.experiments.runs import job
    from heavytail_optax.experiments.runs.summary import summary_table
    from heavytail_optax.experiments.storage.run_lock import RunLock
    from heavytail_optax.experiments.terminal.session import open_session

    methods, data_dir = command.methods, command.machine.data_dir
    settings = replaced(command.settings, method=methods[0])
    is_first = jax.process_index() == 0
    console = Console(quiet=not is_first)
    with (
        open_session(console, settings.training.steps) as session,
        contextlib.ExitStack() as stack,
    ):
        progress = session.progress
        with in_all_or_none():
            options = run_options(command.machine)
            if command.resume is not None:
                directory = command.resume
                dataset = job.reload_job_data(directory, progress, data_dir)
            else:
                dataset = job.load_job_data(settings.data, settings.seed, data_dir)
                directory = _new_directory(command, is_first)
            if is_first:
                stack.enter_context(RunLock(directory))
            if is_first and command.resume is None:
                typed = shlex.join([*program.split(), "train", *arguments])
                job.record_job(
                    directory, command.preset, settings, methods, dataset, typed
                )
        data = describe_dataset(dataset)
        is_other = differs_from_first(f"{settings} {methods} {data}")
        with in_all_or_none():
            if is_other:
                raise JobError(
                    "The settings or the data of this process are not those of the "
                    "first one. Start all with the same options, on the same data."
                )
        connect(options.mesh)
        progress.note(_opening(command.preset, data, directory))
        results = job.run_job(
            directory,
            settings,
            methods,
            dataset,
            progress,
            session.stop.is_set,
            options,
        )
        stop = session.stop
    console.print(summary_table(results, settings, dataset.test.labels.size))
    if plot_path(directory).exists():
        picture = f"Picture: {plot_path(directory)}"
        console.print(picture, highlight=False, soft_wrap=True)
    if any(result.status == "interrupted" for result in results):
        go_on = f"{program} train --resume {shlex.quote(str(directory))}"
        console.print(f"To go on: {go_on}", highlight=False, soft_wrap=True)
        # Another process may have had the signal.
        return stop.exit_status or 128 + signal.SIGINT
    return _DIVERGED if any(result.status == "diverged" for result in results) else 0


def _new_directory(command: TrainCommand, is_first: bool) -> pathlib.Path:
    if command.run_dir is None:
        return claim_next(_RUNS, command.preset)
    # The others do not look into it before the first one is done here.
    if is_first:
        claim(command.run_dir)
    return command.run_dir


def _opening(
    preset: str, data: Mapping[str, int | str], directory: pathlib.Path
) -> str:
    return (
        f"{preset}: {data['train_images']:,} training images, "
        f"{data['wrong_train_labels']:,} of them with a wrong label; "
        f"{data['test_images']:,} test images. Results go to {directory}."
    )
