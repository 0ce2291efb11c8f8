"""The command `heavytail train`."""

import argparse
import dataclasses
import inspect
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence

from heavytail_optax.experiments.data import DataError, describe_dataset
from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.presets import PRESETS, PresetName
from heavytail_optax.experiments.run_directory import (
    RunDirectoryError,
    claim,
    claim_next,
    plot_path,
    read_config,
)
from heavytail_optax.experiments.settings import Settings, changed_settings

_RUNS = pathlib.Path("runs")
_DIVERGED = 3


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
    except (RunDirectoryError, DataError) as error:
        print(error, file=sys.stderr)
        return 1


def _parse(arguments: Sequence[str], program: str) -> TrainCommand:
    import tyro

    preset, directory = _preset_and_resume(arguments)
    stored = None
    if directory is not None:
        config = read_config(pathlib.Path(directory))
        preset, stored = config["preset"], config["settings"]
    if preset not in PRESETS:  # tyro then says which ones there are
        preset = "corrupted-digits"
    settings = stored or PRESETS[preset].settings
    command = tyro.cli(
        TrainCommand,
        prog=program,
        args=arguments,
        default=TrainCommand(settings=settings, preset=preset),
        description=_description(),
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


def _description() -> str:
    """The docstring, the methods with the paper's names, and the exit status."""
    about = inspect.getdoc(TrainCommand) or ""
    width = max(len(method.label) for method in METHODS.values())
    methods = [f"  {m.label:<{width}}  {m.summary}" for m in METHODS.values()]
    heading = "Methods, with their names in the paper's tables:"
    ending = (
        "A method whose loss is no longer finite has diverged: it is stopped, and the "
        "others have their turn. Without truncation a jump may also leave all ReLUs off: "
        "the loss stays finite, the accuracy that of chance.\n\nExit status: 0 if every method came to its last step, 1 "
        f"if the job could not start, 2 for bad options, {_DIVERGED} if a method "
        "diverged, 130 after Ctrl-C."
    )
    start = about.partition("Attributes:")[0].rstrip()
    return "\n".join([start, "", heading, *methods, "", ending])


def _preset_and_resume(arguments: Sequence[str]) -> tuple[str, str | None]:
    """The two options that decide on the defaults of all others."""
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False
    )
    parser.add_argument("--preset", default="corrupted-digits")
    parser.add_argument("--resume")
    try:
        known, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:  # tyro says what is wrong
        return "corrupted-digits", None
    return known.preset, known.resume


def _train(command: TrainCommand, arguments: Sequence[str], program: str) -> int:
    from rich.console import Console

    from heavytail_optax.experiments.interrupts import StopRequest

    console = Console()

    def notify() -> None:
        console.show_cursor()
        console.print("Stopping after these steps. Ctrl-C again quits at once.")

    with StopRequest(notify) as stop:
        # These load Flax, Orbax, scikit-learn and Matplotlib, which takes seconds.
        from heavytail_optax.experiments import job
        from heavytail_optax.experiments.progress import LiveProgress, PlainProgress
        from heavytail_optax.experiments.summary import summary_table

        settings = command.settings
        progress_type = LiveProgress if console.is_terminal else PlainProgress
        with progress_type(console, settings.steps) as progress:
            if command.resume is not None:
                directory = command.resume
                dataset = job.reload_job_data(directory, progress)
            else:
                dataset = job.load_job_data(settings)
                directory = _new_directory(command)
                typed = shlex.join([*program.split(), "train", *arguments])
                job.record_job(directory, command.preset, settings, dataset, typed)
            progress.note(
                _opening(command.preset, describe_dataset(dataset), directory)
            )
            results = job.run_job(directory, settings, dataset, progress, stop.is_set)
    console.print(summary_table(results, settings, dataset.test.labels.size))
    if plot_path(directory).exists():
        picture = f"Picture: {plot_path(directory)}"
        console.print(picture, highlight=False, soft_wrap=True)
    if any(result.status == "interrupted" for result in results):
        go_on = f"{program} train --resume {shlex.quote(str(directory))}"
        console.print(f"To go on: {go_on}", highlight=False, soft_wrap=True)
        return stop.exit_status
    return _DIVERGED if any(result.status == "diverged" for result in results) else 0


def _new_directory(command: TrainCommand) -> pathlib.Path:
    if command.run_dir is None:
        return claim_next(_RUNS, command.preset)
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
