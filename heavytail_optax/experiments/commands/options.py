"""The options of each command, with their help. Nothing that takes long to load."""

import dataclasses
import pathlib
from typing import Annotated, Literal

import tyro

from ..devices.processes import ALONE, Cluster
from ..measure_names import MEASURE_NAMES, MeasureName
from ..measures.measure import MeasureOptions
from ..methods import MethodName
from ..presets import PresetName
from ..runs.grid import variants_of
from ..runs.options import DEFAULT_JOBS, THIS_MACHINE, JobOptions, Machine
from ..setting_rules import BETWEEN_0_AND_1, at_least, check_fields
from ..settings import Settings, replaced

Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
_MEASURING = MeasureOptions()


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train a network with each method; keep metrics, checkpoints and a picture.

    Without options: the LeNet on scikit-learn's handwritten digits, some of them with
    random labels, with SGD and with two kinds of truncated heavy-tailed SGD. Ctrl-C
    keeps what was done and says how to go on. The preset may also be given as the first
    word.

    Attributes:
      methods: Train with these, one after the other, from the same initial weights
        and through the same small batches. The list above says what each one does.
      preset: Where all settings come from that are not given.
      run_dir: Directory for the results, new or empty. By default the next free of
        runs/PRESET-001, runs/PRESET-002, ...
      resume: Directory of an earlier run, to go on where it stopped. Its settings
        are those it was started with, and so are --data-dir, --devices and
        --tensorboard where they are not given again.
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


@dataclasses.dataclass(frozen=True)
class ReproduceOptions:
    """Train with each method and several seeds, measure, and make the paper's table.

    Without options: all methods of the paper on handwritten digits, in a few minutes.
    What is done is skipped, so that the same command goes on after Ctrl-C or a kill, and
    with more --methods or --seeds adds to what is there. --data-dir, --devices and
    --tensorboard are then those of the last time, where they are not given again. Started
    several times at once, it shares the runs. heavytail report DIRECTORY shows the table at
    any time. The preset may also be given as the first word.

    Attributes:
      methods: Train with each of these, from the same initial weights and through
        the same small batches. The list above says what each one does.
      preset: The task, and where all settings come from that are not given.
      seeds: Number of seeds, from --seed on. A run each, for each method.
      directory: Directory of the grid of runs. By default grids/PRESET.
      launcher: Where the runs are carried out: here, one after the other, or as
        jobs of submitit, on SLURM or as processes of this host.
    """

    settings: Settings
    methods: tuple[MethodName, ...]
    preset: PresetName = "corrupted-digits-short"
    seeds: Annotated[int, at_least(1)] = 2
    directory: pathlib.Path | None = None
    launcher: Literal["here", "submitit"] = "here"
    machine: Machine = THIS_MACHINE
    jobs: JobOptions = DEFAULT_JOBS

    def __post_init__(self) -> None:
        check_fields(self, "option")
        variants_of(self.settings, self.methods)
        # Every seed must be one, and the last may be too large.
        replaced(self.settings, seed=self.settings.seed + self.seeds - 1)

    @property
    def grid_directory(self) -> pathlib.Path:
        """The directory of the grid."""
        return self.directory or pathlib.Path("grids", self.preset)


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Show the results of a grid of methods and seeds, finished or not.

    Prints the table, and writes it into the grid's directory as Markdown (report.md) and
    CSV (summary.csv with a row a method, runs.csv with a row a run), with a picture of
    test accuracy against sharpness (accuracy_against_sharpness.png). Figures of the
    paper's tables stand beside ours where there are some.

    Attributes:
      directory: Directory that heavytail reproduce or heavytail train made.
    """

    directory: tyro.conf.Positional[pathlib.Path]


@dataclasses.dataclass(frozen=True)
class AskedRuns:
    """Which of the finished runs of a directory are measured.

    Attributes:
      methods: The runs of these methods only.
      seeds: The runs with these seeds only.
      again: Also measure what has been measured in the same way.
      data_dir: Directory with the files of the data set, looked into first. By
        default that of the runs.
    """

    methods: tuple[MethodName, ...] | None = None
    seeds: tuple[int, ...] | None = None
    again: Flag = False
    data_dir: pathlib.Path | None = None

    def __post_init__(self) -> None:
        check_fields(self, "option")


_ALL_RUNS = AskedRuns()


@dataclasses.dataclass(frozen=True)
class FlatnessOptions:
    """Measure how flat the solutions of finished runs are.

    Prints a table with a row a run, and writes it to flatness.csv in the directory, with
    a picture, flatness.png. What is measured is kept at once, with all arguments, in the
    measurements.json of each run: the same command goes on after Ctrl-C. heavytail report
    has the measures of a grid as columns.

    Attributes:
      directory: Directory of a run of heavytail train, or of a grid of heavytail
        reproduce.
      measures: What to measure; by default everything.
    """

    directory: tyro.conf.Positional[pathlib.Path]
    measures: tuple[MeasureName, ...] = MEASURE_NAMES
    asked: AskedRuns = _ALL_RUNS
    measuring: MeasureOptions = _MEASURING

    def __post_init__(self) -> None:
        check_fields(self, "option")


@dataclasses.dataclass(frozen=True)
class DiagnoseOptions:
    """Say whether the noise of the gradients is heavy-tailed, or that one cannot tell.

    Of finished runs, at their last step; without a directory, of a new run of SGD on
    handwritten digits. Prints for each layer the tail index with its interval and a
    verdict, compares the fits of other laws, and proposes alpha, scale and max_norm for
    tail inflation. All numbers go to diagnose.csv, and pictures to diagnose.png, in the
    directory. The noise itself is kept in the folder gradient_noise of each run, a file
    for each number and size of batches: after Ctrl-C the same command goes on with the
    run that was being measured.

    Attributes:
      directory: Directory of a run of heavytail train, or of a grid of heavytail
        reproduce. By default a new run is made in the next free of
        runs/diagnose-001, runs/diagnose-002, ...
      draws: Small batches whose gradient is looked at, each an independent draw.
      batch_size: Images in each; 1 for the noise of single images. By default those
        of the run.
      truncated_share: Share of all updates that the proposed max_norm truncates.
      steps: Of the new run.
    """

    directory: tyro.conf.Positional[pathlib.Path | None] = None
    asked: AskedRuns = _ALL_RUNS
    draws: Annotated[int, at_least(100)] = 4000
    batch_size: Annotated[int | None, at_least(1)] = None
    truncated_share: Annotated[float, BETWEEN_0_AND_1] = 0.03
    steps: Annotated[int, at_least(100)] = 600

    def __post_init__(self) -> None:
        check_fields(self, "option")
        asked = self.asked
        if self.directory is None and (asked.methods or asked.seeds or asked.again):
            raise ValueError(
                "The `methods`, `seeds` and `again` options choose among the runs of a "
                "directory, and none is given."
            )
