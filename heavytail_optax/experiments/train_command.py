"""The command `heavytail train`."""

import contextlib
import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence

from heavytail_optax.experiments.data import describe_dataset
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.machine import (
    ALONE,
    THIS_MACHINE,
    Cluster,
    Machine,
    join_cluster,
    run_options,
)
from heavytail_optax.experiments.presets import PRESETS, PresetName
from heavytail_optax.experiments.run_directory import (
    RunDirectoryError,
    claim,
    claim_next,
    plot_path,
    read_config,
)
from heavytail_optax.experiments.settings import Settings, changed_settings
from heavytail_optax.experiments.settings_parser import (
    DIVERGED,
    description,
    options_ahead,
    preset_of,
)

_RUNS = pathlib.Path("runs")


@dataclasses.dataclass(frozen=True)
class TrainCommand:
    """Train a network with each method; keep metrics, checkpoints and a picture.

    Without options: the LeNet on scikit-learn's handwritten digits, some of them with
    random labels, with SGD and with two kinds of truncated heavy-tailed SGD. Ctrl-C
    keeps what was done and says how to go on.

    Attributes:
      preset: Where all settings come from that are not given.
      run_dir: Directory for the results, new or empty. By default the next free of
        runs/PRESET-001, runs/PRESET-002, ...
      resume: Directory of an earlier run, to go on where it stopped. Its settings are
        those it was started with.
    """

    settings: Settings
    preset: PresetName = "corrupted-digits"
    run_dir: pathlib.Path | None = None
    resume: pathlib.Path | None = None
    machine: Machine = THIS_MACHINE
    cluster: Cluster = ALONE


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
        command = _parse(arguments, f"{program} train")
        return _train(command, arguments, program)
    except JobError as error:
        print(error, file=sys.stderr)
        return 1


def _parse(arguments: Sequence[str], program: str) -> TrainCommand:
    import tyro

    directory = options_ahead(arguments, ["resume"])["resume"]
    preset, stored = preset_of(arguments, "corrupted-digits"), None
    if directory is not None:
        config = read_config(pathlib.Path(directory))
        preset, stored = config["preset"], config["settings"]
    settings = stored or PRESETS[preset].settings
    command = tyro.cli(
        TrainCommand,
        prog=program,
        args=arguments,
        default=TrainCommand(settings=settings, preset=preset),
        description=description(TrainCommand, "method"),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
    )
    if stored is None:
        return command
    changed = changed_settings(stored, command.settings)
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


def _train(command: TrainCommand, arguments: Sequence[str], program: str) -> int:
    join_cluster(command.cluster)
    # These load JAX, Flax, Orbax and Matplotlib, which takes seconds.
    import jax
    from rich.console import Console

    from heavytail_optax.experiments import job
    from heavytail_optax.experiments.run_lock import RunLock
    from heavytail_optax.experiments.session import open_session
    from heavytail_optax.experiments.summary import summary_table

    settings, data_dir = command.settings, command.machine.data_dir
    is_first = jax.process_index() == 0
    console = Console(quiet=not is_first)
    with (
        open_session(console, settings.steps) as session,
        contextlib.ExitStack() as stack,
    ):
        options = run_options(command.machine)
        progress = session.progress
        if command.resume is not None:
            directory = command.resume
            dataset = job.reload_job_data(directory, progress, data_dir)
        else:
            dataset = job.load_job_data(settings, data_dir)
            directory = _new_directory(command)
        if is_first:
            stack.enter_context(RunLock(directory))
        if is_first and command.resume is None:
            typed = shlex.join([*program.split(), "train", *arguments])
            job.record_job(directory, command.preset, settings, dataset, typed)
        progress.note(_opening(command.preset, describe_dataset(dataset), directory))
        results = job.run_job(
            directory, settings, dataset, progress, session.stop.is_set, options
        )
        stop = session.stop
    console.print(summary_table(results, settings, dataset.test.labels.size))
    if plot_path(directory).exists():
        picture = f"Picture: {plot_path(directory)}"
        console.print(picture, highlight=False, soft_wrap=True)
    if any(result.status == "interrupted" for result in results):
        go_on = f"{program} train --resume {shlex.quote(str(directory))}"
        console.print(f"To go on: {go_on}", highlight=False, soft_wrap=True)
        return stop.exit_status
    return DIVERGED if any(result.status == "diverged" for result in results) else 0


def _new_directory(command: TrainCommand) -> pathlib.Path:
    if command.cluster.distributed:
        return _shared_directory(command)
    if command.run_dir is None:
        return claim_next(_RUNS, command.preset)
    claim(command.run_dir)
    return command.run_dir


def _shared_directory(command: TrainCommand) -> pathlib.Path:
    """The directory of all processes, which the first one makes."""
    import jax
    from jax.experimental import multihost_utils

    if command.run_dir is None:
        raise RunDirectoryError(
            "With --distributed a --run-dir is needed that all processes share."
        )
    problem = None
    if jax.process_index() == 0:
        try:
            claim(command.run_dir)
        except RunDirectoryError as error:
            problem = error
    failed = multihost_utils.broadcast_one_to_all(jax.numpy.array(problem is not None))
    if failed:
        raise problem or RunDirectoryError("The first process cannot use its run-dir.")
    return command.run_dir


def _opening(
    preset: str, data: Mapping[str, int | str], directory: pathlib.Path
) -> str:
    return (
        f"{preset}: {data['train_images']:,} training images, "
        f"{data['wrong_train_labels']:,} of them with a wrong label; "
        f"{data['test_images']:,} test images. Results go to {directory}."
    )
