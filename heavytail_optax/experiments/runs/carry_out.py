"""Carries out one run: its data, its lock, training and measuring."""

import contextlib
import functools
import pathlib
from collections.abc import Callable

import jax

from heavytail_optax.experiments.data.dataset import (
    Dataset,
    describe_dataset,
    is_same_data,
)
from heavytail_optax.experiments.data.loading import load_dataset
from heavytail_optax.experiments.devices.processes import in_all_or_none
from heavytail_optax.experiments.measures import new_problem
from heavytail_optax.experiments.measures.measuring import measure_run
from heavytail_optax.experiments.measures.record import read_record
from heavytail_optax.experiments.measures.search import Search
from heavytail_optax.experiments.presets import PRESETS, PresetName
from heavytail_optax.experiments.runs.options import ON_ONE_DEVICE, RunOptions
from heavytail_optax.experiments.runs.result import RunResult, result_of
from heavytail_optax.experiments.runs.run import Run
from heavytail_optax.experiments.runs.train_run import Observer, train_run
from heavytail_optax.experiments.settings import (
    DataSettings,
    Settings,
    changed_settings,
)
from heavytail_optax.experiments.storage.disk_errors import disk_errors
from heavytail_optax.experiments.storage.run_config import (
    read_config,
    versions,
    write_config,
)
from heavytail_optax.experiments.storage.run_directory import (
    RunDirectoryError,
    make_run_directory,
)
from heavytail_optax.experiments.storage.run_lock import RunLock
from heavytail_optax.experiments.training.random_streams import random_streams

Load = Callable[[Settings], Dataset]


def cached_loader(data_dir: pathlib.Path | None) -> Load:
    """Loads the data of a run, and has them at hand for the next one of its seed."""

    @functools.lru_cache(maxsize=1)
    def load(data: DataSettings, seed: int) -> Dataset:
        return load_dataset(data, random_streams(seed).labels, data_dir)

    return lambda settings: load(settings.data, settings.seed)


def carry_out(
    run: Run,
    preset: PresetName,
    command: str,
    observer: Observer,
    load: Load,
    should_stop: Callable[[], bool] = lambda: False,
    options: RunOptions = ON_ONE_DEVICE,
) -> RunResult:
    """Trains from where the run is to its last step, then measures; holds its lock."""
    with contextlib.ExitStack() as stack:
        with in_all_or_none():
            dataset = load(run.settings)
        stack.enter_context(disk_errors(run.directory))
        with in_all_or_none():
            if options.writes:
                make_run_directory(run.directory)
                stack.enter_context(RunLock(run.directory))
                _check_or_record(run, preset, command, observer, dataset)
        history, state = train_run(run, dataset, observer, should_stop, options)
        if state is not None and run.measures:
            problem = new_problem(
                run.settings,
                state.params,
                dataset.train,
                dataset.num_classes,
                options.mesh,
            )
            measure_run(
                run.paths.measurements,
                run.label,
                problem,
                Search(),
                run.measures,
                observer,
                should_stop,
            )
        measured = read_record(run.paths.measurements)
        return result_of(run, history, measured, describe_dataset(dataset))


def check_data(run: Run, dataset: Dataset, note: Callable[[str], None]) -> None:
    """The data must be those that the run started with; other versions are noted."""
    config = read_config(run.paths.config)
    if not is_same_data(describe_dataset(dataset), config["data"]):
        raise RunDirectoryError(
            f"The images or labels are not those that the run in {run.directory} "
            "started with."
        )
    now = {**versions(), "device": _device()}
    then = {**config["versions"], "device": config["device"]}
    changed = [f"{k} {then.get(k)} -> {now[k]}" for k in now if now[k] != then.get(k)]
    if changed:
        note(
            "Going on with other versions than before, so the last digits may differ: "
            + ", ".join(changed)
        )


def _check_or_record(
    run: Run, preset: PresetName, command: str, observer: Observer, dataset: Dataset
) -> None:
    """The run in the directory must be this one; a new one is written down."""
    if not run.paths.config.exists():
        write_config(
            run.paths.config,
            preset=preset,
            settings=run.settings,
            sources=PRESETS[preset].sources_of(run.settings),
            data=describe_dataset(dataset),
            command=command,
            device=_device(),
        )
        return
    changed = changed_settings(read_config(run.paths.config)["settings"], run.settings)
    if changed:
        raise RunDirectoryError(
            f"The run in {run.directory} has other settings: {'; '.join(changed)}. "
            "Remove it, or choose another directory."
        )
    check_data(run, dataset, observer.note)


def _device() -> str:
    return jax.devices()[0].device_kind
