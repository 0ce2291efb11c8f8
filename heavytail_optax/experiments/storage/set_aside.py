"""What a run loses by going on from an earlier step, kept beside it."""

import itertools
import math
import pathlib
import shutil
from collections.abc import Callable

from heavytail_optax.experiments.storage.metrics_log import read_metrics
from heavytail_optax.experiments.storage.run_paths import RunPaths
from heavytail_optax.experiments.training.trainer import Metrics


def set_aside_lost(
    paths: RunPaths, label: str, step: int, steps: int, note: Callable[[str], None]
) -> None:
    """Keeps metrics, TensorBoard's events and measures of steps without a checkpoint.

    The run makes them again. A single evaluation without its checkpoint is no loss: a
    kill leaves one, and so does a run that diverged.
    """
    if step == steps:
        return
    lost = [row for row in read_metrics(paths.metrics) if row.step > step]
    measures = [
        path for path in (paths.measurements, paths.gradient_noise) if path.exists()
    ]
    is_usual = not lost or (len(lost) == 1 and (step > 0 or not _is_finite(lost[0])))
    if is_usual and not measures:
        return
    folder = _new_folder(paths)
    kept = []
    # Copied, as the run takes up the part of them that has its checkpoint.
    if lost:
        shutil.copy2(paths.metrics, folder)
        kept.append(paths.metrics.name)
    if lost and paths.tensorboard.is_dir():
        shutil.copytree(paths.tensorboard, folder / paths.tensorboard.name)
        kept.append(paths.tensorboard.name)
    for path in measures:
        path.rename(folder / path.name)
        kept.append(path.name)
    found = f"only the checkpoint of step {step:,}" if step else "no checkpoint"
    last = max([step, *(row.step for row in lost)])
    note(
        f"{label}: there is {found} in {paths.checkpoints}, so it starts again at step "
        f"{step:,}. What was there up to step {last:,} is kept in {folder}: "
        f"{', '.join(kept)}."
    )


def _new_folder(paths: RunPaths) -> pathlib.Path:
    for number in itertools.count(1):
        folder = paths.earlier(number)
        if not folder.exists():
            folder.mkdir()
            return folder
    raise AssertionError("unreachable")


def _is_finite(metrics: Metrics) -> bool:
    return math.isfinite(metrics.batch_loss) and math.isfinite(metrics.train_loss)
