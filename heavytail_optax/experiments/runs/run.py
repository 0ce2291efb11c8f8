"""One run: trains from where it is to its last step, measures, and keeps all on disk."""

import contextlib
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from ..data.dataset import Dataset, describe_dataset, is_same_data, with_random_labels
from ..data.decoded_images import Tick, no_tick, read_images
from ..data.loading import check_data_dir, read_dataset
from ..errors import USAGE, DataError
from ..files import make_directory
from ..flat_settings import changed_settings
from ..measures.measure import MeasureOptions
from ..parallel import any_process, fail_together, from_first_process, replicate
from ..presets import PRESETS, PresetName
from ..programs import device_name
from ..settings import DataSettings, Settings
from ..storage import checkpoints, metrics_log, run_directory
from ..storage.run_directory import RunDirectoryError, RunLock, disk_errors
from ..terminal import Progress
from ..training.batches import random_streams
from ..training.following import Sharpness, build_follow
from ..training.trainer import Metrics, TrainState, build_trainer, evaluation_at, train
from .grid import Run
from .measuring import measure_run, trained_network
from .options import THIS_MACHINE, Machine
from .result import RunResult, read_result

Load = Callable[[Settings], Dataset]


def cached_loader(
    data_dir: pathlib.Path | None, tick: Tick = no_tick, is_kept: bool = True
) -> Load:
    """Loads the data of a run, and has the images at hand for the next one.

    Images that are too small for the network are an error before any work.
    """
    read_folder = functools.partial(read_images, tick=tick, is_kept=is_kept)

    @functools.lru_cache(maxsize=1)
    def read(data: DataSettings) -> Dataset:
        return read_dataset(data, data_dir, read=read_folder)

    def load(settings: Settings) -> Dataset:
        dataset, data = read(settings.data), settings.data
        try:
            settings.model.check_image_size(min(dataset.train.images.shape[1:3]))
        except ValueError as error:
            raise DataError(str(error), exit_status=USAGE) from error
        key = random_streams(settings.seed).labels
        return with_random_labels(dataset, key, data.clean_examples)

    return load


def carry_out(
    run: Run,
    preset: PresetName,
    command: str,
    progress: Progress,
    load: Load,
    machine: Machine = THIS_MACHINE,
) -> RunResult:
    """Trains from where the run is to its last step, then measures; holds its lock."""
    with contextlib.ExitStack() as stack:
        with fail_together():
            dataset = load(run.settings)
        stack.enter_context(disk_errors(run.directory))
        with fail_together():
            if jax.process_index() == 0:
                make_directory(run.directory)
                stack.enter_context(RunLock(run.directory))
                if run.paths.config.exists():
                    check_run(run, dataset, progress.note)
                else:
                    run_directory.write_config(
                        run.paths.config,
                        run.settings,
                        preset=preset,
                        sources=PRESETS[preset].sources_of(run.settings),
                        data=describe_dataset(dataset),
                        command=command,
                        device=device_name(),
                    )
        state = train_run(run, dataset, progress, machine)
        if state is not None and run.measures:
            images = dataset.train, dataset.num_classes
            network = trained_network(
                run.settings, state.params, *images, machine.mesh()
            )
            measure_run(run, network, MeasureOptions(), run.measures, progress)
        return read_result(run)


def check_machine(machine: Machine, data: DataSettings) -> None:
    """Refuses what is not there: devices, files, or the library for TensorBoard."""
    machine.mesh()
    check_data_dir(data, machine.data_dir)
    if machine.tensorboard:
        metrics_log.check_tensorboard()


def check_run(run: Run, dataset: Dataset, note: Callable[[str], None]) -> None:
    """The run in the directory must be this one; other versions are noted."""
    config = run_directory.read_config(run.paths.config)
    changed = changed_settings(config["settings"], run.settings)
    if changed:
        raise RunDirectoryError(
            f"The run in {run.directory} has other settings: {'; '.join(changed)}. "
            "Remove it, or choose another directory."
        )
    if not is_same_data(describe_dataset(dataset), config["data"]):
        raise RunDirectoryError(
            f"The images or labels are not those that the run in {run.directory} "
            "started with.",
            exit_status=USAGE,
        )
    now = {**run_directory.versions(), "device": device_name()}
    then = {**config["versions"], "device": config["device"]}
    others = [f"{k} {then.get(k)} -> {now[k]}" for k in now if now[k] != then.get(k)]
    if others:
        note(
            "Going on with other versions or another device than before, so the last "
            f"digits may differ: {', '.join(others)}"
        )


def train_run(
    run: Run, dataset: Dataset, progress: Progress, machine: Machine = THIS_MACHINE
) -> TrainState | None:
    """Trains, and keeps metrics and checkpoints; the state after the last step."""
    settings, paths, mesh = run.settings, run.paths, machine.mesh()
    training, is_writer = settings.training, jax.process_index() == 0
    shape = dataset.train.images.shape[1:]
    trainer = build_trainer(settings, shape, dataset.num_classes, mesh)
    follow = build_follow(settings, shape, dataset.num_classes, mesh)
    keys = replicate(mesh, random_streams(settings.seed))
    train_split, test_split = replicate(mesh, (dataset.train, dataset.test))
    dataset = dataset._replace(train=train_split, test=test_split)
    state = trainer.init(keys)
    with contextlib.ExitStack() as stack:
        saved = checkpoints.restore_latest(paths.checkpoints, state, progress.note)
        state = state if saved is None else saved
        step = int(state.step)
        with fail_together():
            log = _history(run, step, progress.note)
        history = log.evaluations
        seconds = history[-1].seconds if history else 0.0

        def write(row: Metrics | Sharpness) -> None:
            """In all processes, but written by one."""
            with fail_together():
                if is_writer:
                    metrics_log.append_metrics(paths.metrics, row)
                if board is not None:
                    board(row)

        def keep(metrics: Metrics) -> None:
            write(metrics)
            history.append(metrics)

        def keep_sharpness(state: TrainState, seconds: float) -> None:
            if settings.following.is_due(int(state.step)):
                write(follow(state, dataset.train, keys.sharpness, seconds))

        board = None
        # One decision for all processes: they see a shared disk at other times.
        if from_first_process((history[-1].step if history else 0) < step):
            row = evaluation_at(settings, dataset, trainer, state, seconds)
            if row is not None:
                # Another process may see it there already.
                history = [each for each in history if each.step < step]
                keep(row)
        log = log._replace(evaluations=history)
        with fail_together():
            if machine.tensorboard and is_writer:
                board = stack.enter_context(
                    metrics_log.tensorboard_log(paths.tensorboard, log.rows)
                )
        progress.start(run.label, training.steps, step)
        if from_first_process(step not in {x.step for x in log.sharpness}):
            keep_sharpness(state, seconds)
        for chunk in train(settings, dataset, trainer, state, keys, seconds):
            if chunk.metrics is not None:
                keep(chunk.metrics)
            if chunk.bad_loss is not None:
                progress.note(
                    f"{run.label} diverged: its loss is {chunk.bad_loss} at step "
                    f"{chunk.step:,}. No more steps are taken with it."
                )
                return None
            keep_sharpness(chunk.state, chunk.seconds)
            is_last = chunk.step == training.steps
            stops = any_process(progress.stop.is_set()) and not is_last
            if chunk.metrics is not None or stops:
                # After the metrics: a run killed in between repeats the chunk.
                checkpoints.save_checkpoint(paths.checkpoints, chunk.step, chunk.state)
            progress.advance(run.label, chunk, history[-1] if history else None)
            if stops:
                return None
            state = chunk.state
    return state


def _history(
    run: Run, step: int, note: Callable[[str], None]
) -> metrics_log.MetricsLog:
    """The metrics up to a step; what comes after it is kept aside."""
    path, settings = run.paths.metrics, run.settings
    if jax.process_index() != 0:
        return metrics_log.read_log(path).up_to(step)
    metrics_log.set_aside_lost(
        run.paths, run.label, step, settings.training.steps, note
    )
    log = metrics_log.drop_metrics_after(path, step, note)
    every = settings.evaluation_steps
    missing = set(range(every, step, every)) - {row.step for row in log.evaluations}
    if missing:
        steps = ", ".join(f"{each:,}" for each in sorted(missing)[:10])
        more = f" and {len(missing) - 10:,} more" if len(missing) > 10 else ""
        note(
            f"The metrics of the steps {steps}{more} are not in {path}, and are not made "
            "again."
        )
    return log


def final_params(run: Run, dataset: Dataset, note: Callable[[str], None]) -> Any:
    """The parameters after the last step of a finished run, locked by this process."""
    settings, steps = run.settings, run.settings.training.steps
    shape = dataset.train.images.shape[1:]
    trainer = build_trainer(settings, shape, dataset.num_classes)
    like = trainer.init(random_streams(settings.seed))
    state = checkpoints.restore_latest(run.paths.checkpoints, like, note)
    if state is None or int(state.step) != steps:
        raise RunDirectoryError(
            f"The checkpoint of the last step, {steps:,}, is not in "
            f"{run.paths.checkpoints}. Move {run.paths.measurements} away, if it is "
            "there, and go on with the run, which makes the checkpoint again."
        )
    return state.params
