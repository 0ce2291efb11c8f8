"""The frame of all commands: parsing, help, errors and exit status.

`options` has what can be typed. The work of a command is `run` in the module of its name,
which is loaded after parsing, so that `--help` loads neither Flax nor Matplotlib.
"""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import itertools
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import IS_NO_DIRECTORY, USAGE, DataError, JobError
from ..files import expanded
from ..flat_settings import changed_settings
from ..measures.flatness import SUMMARIES
from ..methods import METHODS
from ..presets import PRESETS
from ..programs import program_cache
from ..runs.grid import read_grid
from ..settings import DataSettings
from ..storage.run_directory import RunDirectoryError
from . import options
from .parsing import error_as_typed, filled, listed, parse

_OPTIONS = {
    "train": options.TrainOptions,
    "reproduce": options.ReproduceOptions,
    "report": options.ReportOptions,
    "flatness": options.FlatnessOptions,
    "diagnose": options.DiagnoseOptions,
}
_DIVERGENCE = """A run has diverged when its loss is no longer finite. It stops, and the
next run starts. Without truncation a jump may also turn all ReLUs off. Then the loss stays
finite, and the accuracy is that of chance."""
_EXIT_STATUS = """Exit status: 0 if all runs are done (for train and reproduce also if other
processes work on the rest), 2 if what was typed cannot be: options that are wrong, do not
fit each other, the data or the runs, or name what is not there; 1 if something failed, such
as a run, a disk or the network; 130 after Ctrl-C, 143
after SIGTERM."""
# What --help says before its end.
_NOTES = {
    "train": f"{_DIVERGENCE} The exit status is then 3.",
    "reproduce": f"{_DIVERGENCE} The table names such runs.",
    "flatness": """Cost for the LeNet on 1,200 images, on one core: a minute and a half for
all measures but escape, and as long again for escape. The cost of escape grows with --paths
times --jumps. It takes only 200 of the training images. The cost of the others grows with
the number of training images. pac-bayes computes 13 times --samples losses.""",
    "diagnose": """Cost for the LeNet on two cores: about a minute for the first run. The
4,000 gradients take a third of it. The fits of the tails take the rest, which fewer --draws
hardly shorten. The verdict is one of: heavy-tailed, power law up
to an end, not heavy-tailed, not a power law, cannot tell.""",
}


def run(name: str, arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of a command and does its work; the exit status."""
    program = f"{program} {name}"
    asked = None
    try:
        asked = _parse(name, arguments, program)
        work = importlib.import_module(f"{__package__}.{name}").run
        with program_cache(name != "report" and not asked.no_cache):
            return work(asked, shlex.join([*program.split(), *arguments]))
    except JobError as error:
        text = error_as_typed(error, _OPTIONS[name])
        if text.startswith("The --devices") and "--devices" not in " ".join(arguments):
            text += " It is that of the runs that are there: give another --devices."
        print(text, file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:  # as of `| head`
        raise
    except OSError as error:
        if asked is None:  # No file but the output was used.
            raise
        place = error.filename or getattr(asked, "directory", None) or "A file"
        problem = f"{place} cannot be read or written: {error.strerror or error}."
        print(problem, file=sys.stderr)
        return USAGE if isinstance(error, IS_NO_DIRECTORY) else 1


def _parse(name: str, arguments: Sequence[str], program: str) -> Any:
    has_preset = name in ("train", "reproduce")
    if has_preset and arguments and not arguments[0].startswith("-"):
        arguments = ["--preset", *arguments]
    default = functools.partial(_default, name, arguments) if has_preset else None
    kind: Any = _OPTIONS[name]
    asked = parse(kind, program, arguments, _description(name), default)
    if name == "train" and asked.resume is not None:
        _check_unchanged(_default(name, arguments), asked)
    return _counted(asked) if has_preset else asked


def _counted(asked: Any) -> Any:
    """The same with the numbers of images of a folder, where none are given."""
    from ..data.loading import count_images

    try:
        data = _counted_before(asked)
        data = count_images(data, asked.machine.data_dir)
        settings = dataclasses.replace(asked.settings, data=data)
        return dataclasses.replace(asked, settings=settings)
    except ValueError as error:
        raise DataError(str(error), exit_status=USAGE) from error


def _counted_before(asked: Any) -> DataSettings:
    """With the numbers of the grid that is there, if its folder of images is gone."""
    data, place = asked.settings.data, asked.machine.data_dir
    is_here = place is None or expanded(place).is_dir()
    if isinstance(asked, options.TrainOptions) or data.data != "folder" or is_here:
        return data
    # What is wrong with the grid there is said later.
    with contextlib.suppress(JobError):
        before = read_grid(asked.grid_directory).runs()[0].settings.data
        if before.data == "folder":
            found = {
                name: getattr(before, name)
                for name in ("clean_examples", "test_examples")
                if getattr(data, name) is None
            }
            return dataclasses.replace(data, **found)
    return data


def _default(name: str, arguments: Sequence[str]) -> Any:
    """What is not given: from the preset, and from the runs that are gone on with."""
    kind: Any = _OPTIONS[name]
    of_folder = "folder" if _value_of("--data", arguments) == "folder" else None
    asked = _value_of("--preset", arguments) or of_folder
    # With --help, an unknown one has not been refused.
    preset = PRESETS[asked if asked in PRESETS else kind.preset]
    default = kind(preset.settings, preset.methods, preset.name)
    if name == "reproduce":
        place = _value_of("--directory", arguments) or default.grid_directory
        # What is wrong with the grid there is said later.
        with contextlib.suppress(JobError):
            machine = read_grid(pathlib.Path(place)).machine
            return dataclasses.replace(default, machine=machine)
        return default
    resume = _value_of("--resume", arguments)
    if resume is None:
        return default
    resume = pathlib.Path(resume)
    grid = read_grid(resume)
    runs = grid.runs()
    methods = tuple(dict.fromkeys(run.method for run in runs))
    given = {"resume": resume, "machine": grid.machine}
    return kind(runs[0].settings, methods, grid.preset, **given)


def _check_unchanged(
    default: options.TrainOptions, asked: options.TrainOptions
) -> None:
    """A run can only go on as it was started."""
    changed = changed_settings(default.settings, asked.settings)
    for name in ("methods", "preset"):
        then, now = getattr(default, name), getattr(asked, name)
        if then != now:
            changed.insert(0, f"`{name}` is {then!r} there and {now!r} here")
    if asked.directory is not None:
        changed.insert(0, "`directory` is given, which is for new runs")
    if changed:
        raise RunDirectoryError(
            f"The run in {default.resume} can only go on with the settings it was "
            f"started with, but {'; '.join(changed)}.",
            exit_status=USAGE,
        )


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The value of an option that decides on the defaults of the others."""
    found = None
    for word, after in itertools.pairwise([*arguments, "--"]):
        if word == option and not after.startswith("--"):
            found = after
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found


def _description(name: str) -> str:
    """The docstring of the options, the names that may be given, and the exit status."""
    about = inspect.getdoc(_OPTIONS[name]) or ""
    parts = [filled(about.partition("Attributes:")[0])]
    if name in ("train", "reproduce"):
        presets = {preset.name: preset.summary for preset in PRESETS.values()}
        methods = {method.label: method.summary for method in METHODS.values()}
        heading = "Methods, with their names in the paper's tables:"
        parts += [listed("Presets:", presets), listed(heading, methods)]
    if name == "flatness":
        parts.append(listed("Measures:", SUMMARIES))
    ending = [_NOTES[name], _EXIT_STATUS] if name in _NOTES else []
    return "\n\n".join([*parts, *map(filled, ending)])
