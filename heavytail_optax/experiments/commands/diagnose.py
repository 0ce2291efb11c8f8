"""The command `heavytail diagnose`."""

import contextlib
import dataclasses
import inspect
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro

from heavytail_optax.experiments.commands.settings_parser import parse
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.methods import MethodName
from heavytail_optax.experiments.setting_rules import (
    BETWEEN_0_AND_1,
    at_least,
    check_fields,
)
from heavytail_optax.experiments.storage.run_directory import claim_next

if TYPE_CHECKING:
    from rich.console import Console

    from heavytail_optax.experiments.report.noise import DiagnosedRun
    from heavytail_optax.experiments.runs.grid import Grid
    from heavytail_optax.experiments.runs.run import Run
    from heavytail_optax.experiments.terminal.session import Session

_RUNS = pathlib.Path("runs")
_FRESH = "fresh run of SGD"


@dataclasses.dataclass(frozen=True)
class DiagnoseCommand:
    """Say whether the noise of the gradients is heavy-tailed, or that one cannot tell.

    Of finished runs, at their last step; without a directory, of a fresh run of SGD on
    handwritten digits, during training and at its end. Prints for each layer the tail
    index with its interval and a verdict, compares the fits of other laws, and proposes
    alpha, scale and max_norm for tail inflation. All numbers go to diagnose.csv, and
    pictures to diagnose.png, in the directory. The noise itself is kept in the folder
    gradient_noise of each run, a file for each number and size of batches: after Ctrl-C
    the same command goes on with the run that was being measured. A fresh run is kept
    only as a whole.

    Attributes:
      run_dir: Directory of a run of heavytail train, or of a grid of heavytail
        reproduce. By default a fresh run is made, and the results go to the next free of
        runs/diagnose-001, runs/diagnose-002, ...
      methods: The runs of these methods only.
      seeds: The runs with these seeds only.
      draws: Small batches whose gradient is looked at, each an independent draw.
      batch_size: Images in each; 1 for the noise of single images. By default those of
        the run.
      truncated_share: Share of all updates that the proposed max_norm truncates.
      steps: Of the fresh run.
      again: Also measure what has been measured in the same way.
      data_dir: Directory with the files of the data set, looked into first. By default
        that of the runs.
    """

    run_dir: tyro.conf.Positional[pathlib.Path | None] = None
    methods: tuple[MethodName, ...] | None = None
    seeds: tuple[int, ...] | None = None
    draws: Annotated[int, at_least(100)] = 4000
    batch_size: Annotated[int | None, at_least(1)] = None
    truncated_share: Annotated[float, BETWEEN_0_AND_1] = 0.01
    steps: Annotated[int, at_least(100)] = 600
    again: bool = False
    data_dir: pathlib.Path | None = None

    def __post_init__(self) -> None:
        check_fields(self, "option")
        if self.run_dir is None and (self.methods or self.seeds or self.again):
            raise ValueError(
                "The `methods`, `seeds` and `again` options choose among the runs of a "
                "directory, and none is given."
            )


def run(arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail diagnose` and runs it."""
    command = _parse(arguments, f"{program} diagnose")
    # What is asked for again is noted, so that going on does not start anew.
    go_on = [word for word in arguments if word != "--again"]
    typed = shlex.join([*program.split(), "diagnose", *go_on])
    try:
        if command.run_dir is None:
            return _diagnose_fresh(command)
        return _diagnose(command, command.run_dir, typed)
    except JobError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        place = command.run_dir or _RUNS
        print(
            f"{place} cannot be read or written to: {error.strerror}.", file=sys.stderr
        )
        return 1


def _parse(arguments: Sequence[str], program: str) -> DiagnoseCommand:
    return parse(
        DiagnoseCommand,
        arguments,
        program,
        _description(),
        markers=(tyro.conf.FlagCreatePairsOff,),
    )


def _description() -> str:
    about = inspect.getdoc(DiagnoseCommand) or ""
    return "\n".join(
        [
            about.partition("Attributes:")[0].rstrip(),
            "",
            (
                "Cost for the LeNet on two cores: about a minute for the first run, of "
                "which the --draws gradients take a third. The verdict may be heavy-tailed, not "
                "heavy-tailed, not a power law, or cannot tell."
            ),
            "",
            (
                "Exit status: 0 if all finished runs are diagnosed, whatever the verdicts, "
                "1 if there is none or one could not be diagnosed, 2 for bad options, 130 "
                "after Ctrl-C."
            ),
        ]
    )


def _diagnose(command: DiagnoseCommand, directory: pathlib.Path, typed: str) -> int:
    # These load JAX, Flax and Matplotlib, which takes seconds.
    from rich.console import Console

    from heavytail_optax.experiments.report.noise import diagnosed_runs
    from heavytail_optax.experiments.runs.finished_runs import asked_runs
    from heavytail_optax.experiments.terminal.session import open_session

    console = Console()
    grid, runs, skipped = asked_runs(directory, command.methods, command.seeds)
    problems: list[str] = []
    with open_session(
        console,
        runs[0].settings.training.steps,
        False,
        "Stopping after these batches.",
    ) as session:
        for line in skipped:
            session.progress.note(f"{line}: skipped")
        is_complete = _measure_all(command, grid, runs, session, problems)
        stop = session.stop
        # The verdicts take seconds, which Ctrl-C need not cost.
        found = diagnosed_runs(
            runs, command.draws, command.batch_size, command.truncated_share
        )
    _show(directory, found, console)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not is_complete:
        console.print(f"To go on: {typed}", highlight=False, soft_wrap=True)
        return stop.exit_status
    return 1 if problems else 0


def _measure_all(
    command: DiagnoseCommand,
    grid: "Grid",
    runs: Sequence["Run"],
    session: "Session",
    problems: list[str],
) -> bool:
    """Measures run after run; False if it was stopped before the last was done."""
    from heavytail_optax.experiments.data import DataError
    from heavytail_optax.experiments.measures.noise_record import ask_noise_again
    from heavytail_optax.experiments.runs.carry_out import cached_loader
    from heavytail_optax.experiments.storage.run_lock import RunBusyError, RunLock

    progress = session.progress
    # The data are those that the runs of the directory were trained on.
    load = cached_loader(command.data_dir or grid.machine.data_dir)
    if command.again:
        for run in runs:
            # One that another process holds is told of below.
            with contextlib.suppress(RunBusyError), RunLock(run.directory):
                ask_noise_again(_kept_as(command, run)[1])
    for number, run in enumerate(runs):
        progress.overall(number, len(runs), "")
        if session.stop.is_set():
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


def _measure(command: DiagnoseCommand, run: "Run", load, session: "Session") -> bool:
    from heavytail_optax.experiments.measures.noise_record import (
        is_noise_measured,
        read_noise,
        write_noise,
    )
    from heavytail_optax.experiments.runs.carry_out import check_data
    from heavytail_optax.experiments.runs.finished_runs import final_params
    from heavytail_optax.experiments.storage.durable_files import set_aside_damaged
    from heavytail_optax.experiments.storage.run_lock import RunLock

    progress = session.progress
    arguments, path = _kept_as(command, run)
    if is_noise_measured(path, arguments):
        progress.note(f"{run.label}: already measured")
        return True
    with RunLock(run.directory):
        dataset = load(run.settings)
        check_data(run, dataset, progress.note)
        params = final_params(run, dataset, progress.note)
        draws = _draw(run.settings, params, dataset, arguments, run.label, session)
        if draws is None:
            return False
        if path.exists() and read_noise(path) is None:
            damaged = set_aside_damaged(path)
            progress.note(f"{path} could not be read. It is kept as {damaged}.")
        write_noise(path, draws, arguments)
    return True


def _kept_as(command: DiagnoseCommand, run: "Run") -> tuple[dict, pathlib.Path]:
    """What the noise of a run is measured with, and the file for it."""
    from heavytail_optax.experiments.measures.gradient_noise import noise_arguments

    arguments = noise_arguments(run.settings, command.draws, command.batch_size)
    return arguments, run.paths.noise_of(**arguments)


def _draw(settings, params, dataset, arguments, label: str, session: "Session"):
    """The noise, with its progress; None if it was stopped."""
    from heavytail_optax.experiments.measures.gradient_noise import (
        measure_gradient_noise,
    )

    _check_batch_size(arguments["batch_size"], dataset)

    def tick(done: int, total: int) -> bool:
        session.progress.measuring(label, "gradient noise", done, total)
        return session.stop.is_set()

    draws = measure_gradient_noise(
        settings, params, dataset.train, dataset.num_classes, arguments, tick
    )
    if draws is not None:
        session.progress.measuring(label, "gradient noise", 1, 1)
    return draws


def _check_batch_size(batch_size: int, dataset) -> None:
    """A batch is drawn without replacement."""
    number = dataset.train.labels.size
    if batch_size > number:
        raise JobError(
            f"The `batch_size` option must be at most {number}, the number of training "
            f"images. Got {batch_size} instead."
        )


def _diagnose_fresh(command: DiagnoseCommand) -> int:
    from rich.console import Console

    from heavytail_optax.experiments.measures.gradient_noise import noise_arguments
    from heavytail_optax.experiments.report.noise import diagnosed_fresh_run
    from heavytail_optax.experiments.runs.carry_out import cached_loader
    from heavytail_optax.experiments.runs.fresh_run import fresh_settings, train_fresh
    from heavytail_optax.experiments.terminal.session import open_session

    console = Console()
    settings = fresh_settings(command.steps)
    dataset = cached_loader(command.data_dir)(settings)
    arguments = noise_arguments(settings, command.draws, command.batch_size)
    draws = None
    with open_session(
        console, settings.training.steps, False, "Stopping after these steps."
    ) as session:

        def tick(done: int, total: int) -> bool:
            session.progress.measuring(_FRESH, "noise in training", done, total)
            return session.stop.is_set()

        fresh = train_fresh(settings, dataset, tick)
        if fresh is not None:
            session.progress.measuring(_FRESH, "noise in training", 1, 1)
            draws = _draw(settings, fresh.params, dataset, arguments, _FRESH, session)
        found = None
        if fresh is not None and draws is not None:
            found = diagnosed_fresh_run(fresh, draws, command.truncated_share)
        stop = session.stop
    if found is None:
        console.print("Nothing is kept of a fresh run that is not whole.")
        return stop.exit_status
    _show(claim_next(_RUNS, "diagnose"), [found], console)
    return 0


def _show(
    directory: pathlib.Path, runs: Sequence["DiagnosedRun"], console: "Console"
) -> None:
    """The tables and the picture of what is measured, now or earlier."""
    from heavytail_optax.experiments.report import noise
    from heavytail_optax.experiments.report.style import (
        first_of_each_method,
        save_figure,
    )
    from heavytail_optax.experiments.storage.durable_files import replace_file

    if not runs:
        return
    for run in runs:
        console.print(noise.noise_report(run, console.width))
    table, picture = directory / "diagnose.csv", directory / "diagnose.png"
    replace_file(table, noise.noise_values(runs).to_csv(index=False))
    drawn = first_of_each_method(runs)
    save_figure(noise.draw_noise(drawn), picture)
    if len(drawn) < len(runs):
        console.print("The picture has the first seed of each method.")
    for path in (table, picture):
        console.print(f"Written: {path}", highlight=False, soft_wrap=True)
