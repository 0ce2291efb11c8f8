"""What a run loses by going on from an earlier step, kept beside it."""

import itertools
import math
import pathlib
import shutil
from collections.abc import Callable

from heavytail_optax.experiments.storage import run_directory
from heavytail_optax.experiments.storage.metrics_log import read_metrics
from heavytail_optax.experiments.training.trainer import Metrics


def set_aside_lost(
    directory: pathlib.Path,
    method: str,
    step: int,
    steps: int,
    note: Callable[[str], None],
) -> None:
    """Keeps the metrics, TensorBoard's events and measures of steps without checkpoint.

    The run makes them again. A single evaluation without its checkpoint is no loss: a
    kill leaves one, and so does a run that diverged.

    Args:
      directory: of the job, locked by this process.
      method: of the run.
      step: of the checkpoint that it goes on from, 0 without one.
      steps: of the whole run.
      note: is told what is lost and where it is kept.
    """
    log = run_directory.metrics_path(directory, method)
    lost = [row for row in read_metrics(log) if row.step > step]
    measures = [path for path in _measures(directory, method) if path.exists()]
    if step == steps:
        return
    is_usual = not lost or (len(lost) == 1 and (step > 0 or not _is_finite(lost[0])))
    if is_usual and not measures:
        return
    folder = _new_folder(directory, method)
    events = run_directory.tensorboard_path(directory, method)
    kept = []
    # Copied, as the run takes up the part of them that has its checkpoint.
    if lost:
        shutil.copy2(log, folder)
        kept.append(log.name)
    if lost and events.is_dir():
        shutil.copytree(events, folder / events.name)
        kept.append(events.name)
    for path in measures:
        path.rename(folder / path.name)
        kept.append(path.name)
    checkpoints = run_directory.checkpoints_path(directory, method)
    found = f"only the checkpoint of step {step:,}" if step else "no checkpoint"
    last = max([step, *(row.step for row in lost)])
    note(
        f"{method}: there is {found} in {checkpoints}, so it starts again at step "
        f"{step:,}. What was there up to step {last:,} is kept in {folder}: "
        f"{', '.join(kept)}."
    )


def _new_folder(directory: pathlib.Path, method: str) -> pathlib.Path:
    for number in itertools.count(1):
        folder = run_directory.earlier_path(directory, method, number)
        if not folder.exists():
            folder.mkdir()
            return folder
    raise AssertionError("unreachable")


def _is_finite(metrics: Metrics) -> bool:
    return math.isfinite(metrics.batch_loss) and math.isfinite(metrics.train_loss)


def _measures(directory: pathlib.Path, method: str) -> tuple[pathlib.Path, ...]:
    return (
        run_directory.sharpness_path(directory, method),
        run_directory.flatness_path(directory, method),
        run_directory.gradient_noise_path(directory, method),
    )
