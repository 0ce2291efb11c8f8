"""The command `heavytail flatness`."""

import contextlib
import dataclasses
import inspect
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from heavytail_optax.experiments.commands.settings_parser import parse
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.measure_names import (
    MEASURE_NAMES,
    SUMMARIES,
    MeasureName,
)
from heavytail_optax.experiments.measures.search import Search
from heavytail_optax.experiments.methods import MethodName
from heavytail_optax.experiments.setting_rules import check_fields

if TYPE_CHECKING:
    from rich.console import Console

    from heavytail_optax.experiments.runs.grid import Grid
    from heavytail_optax.experiments.runs.run import Run
    from heavytail_optax.experiments.terminal.session import Session

_DEFAULT_SEARCH = Search()


@dataclasses.dataclass(frozen=True)
class FlatnessCommand:
    """Measure how flat the solutions of finished runs are.

    Prints a table with a row a run, and writes it to flatness.csv in the directory, with
    a picture, flatness.png. What is measured is kept at once, with all arguments, in the
    measurements.json of each run: the same command goes on after Ctrl-C. heavytail report
    has the measures of a grid as columns.

    Attributes:
      directory: Directory of a run of heavytail train, or of a grid of heavytail
        reproduce.
      measures: What to measure; by default everything.
      methods: The runs of these methods only.
      seeds: The runs with these seeds only.
      again: Also measure what has been measured in the same way.
      data_dir: Directory with the files of the data set, looked into first. By default
        that of the runs.
    """

    directory: pathlib.Path
    measures: tuple[MeasureName, ...] = MEASURE_NAMES
    methods: tuple[MethodName, ...] | None = None
    seeds: tuple[int, ...] | None = None
    search: Search = _DEFAULT_SEARCH
    again: bool = False
    data_dir: pathlib.Path | None = None

    def __post_init__(self) -> None:
        check_fields(self, "option")


def run(arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail flatness` and runs it."""
    command = _parse(arguments, f"{program} flatness")
    # What is asked for again is noted, so that going on does not start anew.
    go_on = [word for word in arguments if word != "--again"]
    typed = shlex.join([*program.split(), "flatness", *go_on])
    try:
        return _flatness(command, typed)
    except JobError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"{command.directory} cannot be read or written to: {error.strerror}.",
            file=sys.stderr,
        )
        return 1


def _parse(arguments: Sequence[str], program: str) -> FlatnessCommand:
    import tyro

    return parse(
        FlatnessCommand,
        arguments,
        program,
        _description(),
        markers=(tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff),
    )


def _description() -> str:
    about = inspect.getdoc(FlatnessCommand) or ""
    width = max(map(len, MEASURE_NAMES))
    return "\n".join(
        [
            about.partition("Attributes:")[0].rstrip(),
            "",
            "Measures:",
            *(f"  {name:<{width}}  {text}" for name, text in SUMMARIES.items()),
            "",
            (
                "Cost for the LeNet on 1,200 images, on one core: a minute and a half for "
                "all but escape, and as long again for escape, whose cost is in proportion "
                "to --paths times --jumps and which takes 200 of the training images only. "
                "The cost of the others is in proportion to the training images; pac-bayes "
                "computes 13 times --samples losses."
            ),
            "",
            (
                "Exit status: 0 if all finished runs are measured, 1 if there is none or one "
                "could not be measured, 2 for bad options, 130 after Ctrl-C."
            ),
        ]
    )


def _flatness(command: FlatnessCommand, typed: str) -> int:
    # These load JAX, Flax and Matplotlib, which takes seconds.
    from rich.console import Console

    from heavytail_optax.experiments.runs.finished_runs import asked_runs
    from heavytail_optax.experiments.terminal.session import open_session

    console = Console()
    grid, runs, skipped = asked_runs(command.directory, command.methods, command.seeds)
    problems: list[str] = []
    with open_session(
        console, runs[0].settings.training.steps, False, "Stopping after this measure."
    ) as session:
        for line in skipped:
            session.progress.note(f"{line}: skipped")
        is_complete = _measure_all(command, grid, runs, session, problems)
        stop = session.stop
    _show(command.directory, runs, console)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not is_complete:
        console.print(f"To go on: {typed}", highlight=False, soft_wrap=True)
        return stop.exit_status
    return 1 if problems else 0


def _measure_all(
    command: FlatnessCommand,
    grid: "Grid",
    runs: Sequence["Run"],
    session: "Session",
    problems: list[str],
) -> bool:
    """Measures run after run; False if it was stopped before the last was done."""
    from heavytail_optax.experiments.data import DataError
    from heavytail_optax.experiments.measures.measuring import ask_again, is_measured
    from heavytail_optax.experiments.runs.carry_out import cached_loader
    from heavytail_optax.experiments.storage.run_lock import RunBusyError, RunLock

    progress, should_stop = session.progress, session.stop.is_set
    # The data are those that the runs of the directory were trained on.
    load = cached_loader(command.data_dir or grid.machine.data_dir)
    if command.again:
        for run in runs:
            # One that another process holds is told of below.
            with contextlib.suppress(RunBusyError), RunLock(run.directory):
                ask_again(run.paths.measurements, command.measures)
    for number, run in enumerate(runs):
        progress.overall(number, len(runs), "")
        if is_measured(
            run.paths.measurements, run.settings, command.search, command.measures
        ):
            progress.note(f"{run.label}: already measured")
            continue
        if should_stop():
            return False
        try:
            if not _measure(command, run, load, session):
                return False
        except DataError:  # The others have the same data.
            raise
        except JobError as error:
            problems.append(f"{run.label}: {error}")
    progress.overall(len(runs), len(runs), "")
    return True


def _measure(command: FlatnessCommand, run: "Run", load, session: "Session") -> bool:
    from heavytail_optax.experiments.measures import new_problem
    from heavytail_optax.experiments.measures.measuring import measure_run
    from heavytail_optax.experiments.runs.carry_out import check_data
    from heavytail_optax.experiments.runs.finished_runs import final_params
    from heavytail_optax.experiments.storage.run_lock import RunLock

    progress = session.progress
    with RunLock(run.directory):
        dataset = load(run.settings)
        check_data(run, dataset, progress.note)
        params = final_params(run, dataset, progress.note)
        problem = new_problem(run.settings, params, dataset.train, dataset.num_classes)
        return measure_run(
            run.paths.measurements,
            run.label,
            problem,
            command.search,
            command.measures,
            progress,
            session.stop.is_set,
        )


def _show(directory: pathlib.Path, asked: Sequence["Run"], console: "Console") -> None:
    """The table and the picture of what is measured, now or earlier."""
    from heavytail_optax.experiments.report import flatness
    from heavytail_optax.experiments.report.style import (
        first_of_each_method,
        save_figure,
    )
    from heavytail_optax.experiments.storage.durable_files import replace_file

    runs = flatness.measured_runs(asked)
    if not runs:
        return
    values = flatness.flatness_values(runs)
    console.print(flatness.flatness_table(runs, values, console.width))
    table, picture = directory / "flatness.csv", directory / "flatness.png"
    replace_file(table, values.to_csv(index=False))
    written = [table]
    drawn = first_of_each_method(runs)
    if save_figure(flatness.draw_flatness(drawn), picture):
        written.append(picture)
        if len(drawn) < len(runs):
            console.print("The picture has the first seed of each method.")
    for path in written:
        console.print(f"Written: {path}", highlight=False, soft_wrap=True)
