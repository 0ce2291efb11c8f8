"""The options of each command, with their help. Nothing that takes long to load."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, get_args

import tyro

from ..flat_settings import flat, replaced
from ..measures.flatness import MEASURE_NAMES, MEASURES, OF_LAYERS, MeasureName
from ..measures.measure import MeasureOptions
from ..methods import METHODS, MethodName
from ..parallel import ALONE, Cluster
from ..presets import PRESETS, PresetName
from ..runs.grid import variants_of
from ..runs.options import DEFAULT_JOBS, ONLY_SLURM, THIS_MACHINE, JobOptions, Machine
from ..setting_rules import (
    BETWEEN_0_AND_1,
    UNSET,
    at_least,
    changed_options,
    check_fields,
    either,
    message,
)
from ..settings import MeasureSettings, Settings, TableMeasure
from .parsing import Flag, NoCache

Directory = Annotated[
    tyro.conf.Positional[pathlib.Path], tyro.conf.arg(metavar="DIRECTORY")
]
_Path = Annotated[pathlib.Path | None, UNSET]
_Methods = Annotated[
    tuple[MethodName, ...], tyro.conf.arg(metavar="METHOD [METHOD ...]")
]
_AllSettings = Annotated[Settings, tyro.conf.arg(name="")]  # in the titles of --help
_MEASURING = MeasureOptions()
_STEPS = 600
_OF_MEASURES = {"sharpness_stddev", "sharpness_samples"}


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train a network with each method. Keep metrics, checkpoints and a picture.

    Without options it trains the LeNet on scikit-learn's handwritten digits, some of them
    with random labels. It uses SGD and two kinds of truncated heavy-tailed SGD. Ctrl-C
    keeps what was done and says how to go on. The first word may be the preset.

    Attributes:
      methods: Methods to train with, one after the other. All start from the same
        weights and see the same small batches. The list above says what each one does.
      preset: Settings to start from. Other options change single settings.
      directory: Directory for the results, new or empty. By default each command makes
        a new one: runs/PRESET-001, runs/PRESET-002, ...
      resume: Directory to go on with. All settings are those it was started with, and
        so are --data-dir, --devices and --tensorboard unless they are given.
    """

    settings: _AllSettings
    methods: _Methods
    preset: PresetName = "corrupted-digits"
    directory: _Path = None
    resume: _Path = None
    no_cache: NoCache = False
    machine: Machine = THIS_MACHINE
    cluster: Cluster = ALONE

    def __post_init__(self) -> None:
        check_fields(self, "option")
        # What a method cannot be trained with is refused before any work.
        variants_of(self.settings, self.methods)
        if self.resume is not None:  # with the settings that are there
            return
        changed = _changed(self.settings, self.preset)
        _refuse_unused(changed, self.methods)
        is_expected = "expected" in self.settings.following.followed_measures
        for field in dataclasses.fields(MeasureSettings):
            is_used = field.name in _OF_MEASURES and is_expected
            if field.name in changed and not is_used:
                raise ValueError(
                    f"`{field.name}`: heavytail train measures nothing. Measure its runs "
                    "with heavytail flatness, or train with heavytail reproduce."
                )


@dataclasses.dataclass(frozen=True)
class ReproduceOptions:
    """Train with each method and several seeds, measure, and make the paper's table.

    Without options it compares SGD and tail inflation, each with and without truncation,
    and Our 1 of the paper, on handwritten digits, in a few minutes. Runs that are done
    are skipped, so the same command goes on after Ctrl-C or a kill. With more --methods
    or --num-seeds it adds runs. --data-dir, --devices and --tensorboard are those of the
    last time, unless they are given. If the same command is started several times at
    once, the processes share the runs. heavytail report DIRECTORY shows the table at any
    time. The first word may be the preset.

    Attributes:
      methods: Methods to train with. All start from the same weights and see the same
        small batches. The list above says what each one does.
      preset: The task, and the settings to start from. Other options change single
        settings.
      num_seeds: Number of seeds. They are --seed, --seed + 1, ... Each method has a run
        with each seed.
      directory: Directory of the runs. By default grids/PRESET, each time the same.
      launcher: Where runs are carried out: here, one after the other, or as jobs of
        submitit, on SLURM or as processes of this host.
    """

    settings: _AllSettings
    methods: _Methods
    preset: PresetName = "corrupted-digits-short"
    num_seeds: Annotated[int, at_least(1)] = 2
    directory: _Path = None
    launcher: Literal["here", "submitit"] = "here"
    no_cache: NoCache = False
    machine: Machine = THIS_MACHINE
    jobs: JobOptions = DEFAULT_JOBS

    def __post_init__(self) -> None:
        check_fields(self, "option")
        variants_of(self.settings, self.methods)
        changed = _changed(self.settings, self.preset)
        _refuse_unused(changed, self.methods)
        for name in sorted(_OF_MEASURES & changed):
            other = {name: _another(flat(self.settings)[name])}
            _refuse_unmeasured(
                name,
                (self.settings, _MEASURING),
                (replaced(self.settings, **other), _MEASURING),
                self.settings.measuring.measures,
                get_args(TableMeasure),
            )
        # Every seed must be one, and the last may be too large.
        replaced(self.settings, seed=self.settings.seed + self.num_seeds - 1)
        given = changed_options(self.jobs)
        if self.launcher == "here" and given:
            raise ValueError(f"{', '.join(given)}: only with --launcher submitit.")
        slurm = [name for name in given if name in ONLY_SLURM]
        if self.jobs.cluster == "local" and slurm:
            raise ValueError(f"{', '.join(slurm)}: only with --cluster slurm.")

    @property
    def grid_directory(self) -> pathlib.Path:
        """The directory of the grid."""
        return self.directory or pathlib.Path("grids", self.preset)


def _changed(settings: Settings, preset: PresetName) -> set[str]:
    """The settings that are not those of the preset."""
    of_preset = flat(PRESETS[preset].settings)
    return {name for name, value in flat(settings).items() if value != of_preset[name]}


def _refuse_unused(changed: Iterable[str], methods: Iterable[MethodName]) -> None:
    """Refuses what changes none of the methods, to which more may be added later."""
    unused = [METHODS[name].without_effect for name in methods]
    for name in sorted(frozenset.intersection(*unused) & {*changed}):
        users = [
            each.name for each in METHODS.values() if name not in each.without_effect
        ]
        raise ValueError(f"`{name}`: only with --methods {either(users)}.")


def _another(value: float) -> float:
    return value / 2 if isinstance(value, float) else value + 1


def _refuse_unmeasured(
    name: str,
    here: tuple[Settings, MeasureOptions],
    there: tuple[Settings, MeasureOptions],
    asked: Sequence[str],
    known: Sequence[str],
) -> None:
    """Refuses an option, another value of which changes none of the measures asked for."""
    users = [
        each
        for each in known
        if MEASURES[each].arguments(*here) != MEASURES[each].arguments(*there)
    ]
    if not {*users} & {*asked}:
        raise ValueError(f"`{name}`: only with --measures {either(users)}.")


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Show the results of all runs in a directory, finished or not.

    The table is printed, and written into the directory as Markdown (report.md) and CSV:
    summary.csv has a row for each method, runs.csv one for each run. A picture shows test
    accuracy against sharpness (accuracy_against_sharpness.png). The paper's figures stand
    beside ours where the paper has them.

    Attributes:
      directory: Directory of heavytail reproduce or heavytail train.
    """

    directory: Directory


@dataclasses.dataclass(frozen=True)
class AskedRuns:
    """Which finished runs are measured.

    Attributes:
      methods: Only the runs of these methods. By default all.
      seeds: Only the runs with these seeds. By default all.
      again: Measure again what has been measured. Without it, all that is there stays,
        also if it was measured with other options.
      data_dir: Directory with the files of the data set, which are then looked for
        nowhere else. By default that of the runs.
    """

    methods: Annotated[
        tuple[MethodName, ...] | None,
        tyro.conf.arg(metavar="METHOD [METHOD ...]"),
        UNSET,
    ] = None
    seeds: Annotated[
        tuple[int, ...] | None, tyro.conf.arg(metavar="INT [INT ...]"), UNSET
    ] = None
    again: Flag = False
    data_dir: _Path = None

    def __post_init__(self) -> None:
        check_fields(self, "option")


_ALL_RUNS = AskedRuns()
_Asked = Annotated[AskedRuns, tyro.conf.arg(name="runs")]


@dataclasses.dataclass(frozen=True)
class FlatnessOptions:
    """Measure how flat the solutions of finished runs are.

    The table has a row for each run. It is printed, and written to flatness.csv in the
    directory, with a picture, flatness.png. With --by-layer it has a row for each layer,
    and the files are flatness_by_layer.csv and flatness_by_layer.png. Each result is kept
    at once, in measurements.json (measurements_by_layer.json) of its run, so the same
    command goes on after Ctrl-C. heavytail report then has the measures of whole networks
    as columns.

    Attributes:
      directory: Directory of heavytail train or heavytail reproduce.
      measures: What to measure. By default everything, but layer by layer only what is a
        number.
      by_layer: Measure each layer, with the rest of the network held fixed.
    """

    directory: Directory
    measures: Annotated[
        tuple[MeasureName, ...], tyro.conf.arg(metavar="MEASURE [MEASURE ...]")
    ] = MEASURE_NAMES
    by_layer: Flag = False
    no_cache: NoCache = False
    asked: _Asked = _ALL_RUNS
    measuring: MeasureOptions = _MEASURING

    def __post_init__(self) -> None:
        check_fields(self, "option")
        if self.by_layer and self.measures != MEASURE_NAMES:
            for name in self.measures:
                if name not in OF_LAYERS:
                    accepted = f"{either(OF_LAYERS)} with --by-layer"
                    raise ValueError(message("measures", accepted, name, "option"))
        settings = PRESETS["corrupted-digits"].settings
        for field in dataclasses.fields(self.measuring):
            value = getattr(self.measuring, field.name)
            # All measures are on the images.
            if value != field.default and field.name != "images":
                other = {field.name: _another(value)}
                _refuse_unmeasured(
                    field.name,
                    (settings, self.measuring),
                    (settings, dataclasses.replace(self.measuring, **other)),
                    self.asked_measures,
                    OF_LAYERS if self.by_layer else MEASURE_NAMES,
                )

    @property
    def asked_measures(self) -> tuple[MeasureName, ...]:
        """What is measured: of layers, only what can be."""
        is_default = self.measures == MEASURE_NAMES
        return OF_LAYERS if self.by_layer and is_default else self.measures


@dataclasses.dataclass(frozen=True)
class DiagnoseOptions:
    """Say whether the noise of the gradients is heavy-tailed, or that one cannot tell.

    It takes finished runs, at their last step. Without a directory it first trains a new
    run of SGD on handwritten digits. For each layer it prints the tail index with its
    interval, and a verdict. It compares the fits of other laws, and proposes alpha, scale
    and max_norm for tail inflation. All numbers go to diagnose.csv and pictures to
    diagnose.png, in the directory. Each run keeps its noise in the folder gradient_noise,
    so the same command goes on after Ctrl-C.

    Attributes:
      directory: Directory of heavytail train or heavytail reproduce. By default a new
        run is made in a new directory: runs/diagnose-001, runs/diagnose-002, ...
      draws: Number of small batches whose gradient is computed. Each is an independent
        draw of the noise.
      batch_size: Images in each of these batches. 1 is for the noise of single images.
        By default the batch size of the run.
      truncated_share: Share of all updates that the proposed max_norm truncates.
      steps: Number of updates of the new run, without a directory.
    """

    directory: Annotated[
        tyro.conf.Positional[pathlib.Path | None],
        tyro.conf.arg(metavar="[DIRECTORY]"),
        UNSET,
    ] = None
    asked: _Asked = _ALL_RUNS
    draws: Annotated[int, at_least(100)] = 4000
    batch_size: Annotated[int | None, at_least(1), UNSET] = None
    truncated_share: Annotated[float, BETWEEN_0_AND_1] = 0.03
    steps: Annotated[int, at_least(100)] = _STEPS
    no_cache: NoCache = False

    def __post_init__(self) -> None:
        check_fields(self, "option")
        asked = self.asked
        if self.directory is None and asked != _ALL_RUNS:
            raise ValueError(
                "The `methods`, `seeds`, `again` and `data_dir` options choose among the "
                "runs of a directory. Give the directory too."
            )
        if self.directory is not None and self.steps != _STEPS:
            raise ValueError(
                "--steps is of the new run that is made without a directory. The runs of "
                f"{self.directory} have theirs."
            )
