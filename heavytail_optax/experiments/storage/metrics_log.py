"""The metrics of a run as JSON lines: `pandas.read_json(path, lines=True)`."""

import itertools
import json
import math
import pathlib
import shutil
from collections.abc import Callable

from heavytail_optax.experiments.storage.durable_files import append_line, replace_file
from heavytail_optax.experiments.storage.run_directory import RunPaths
from heavytail_optax.experiments.training.trainer import Metrics


def append_metrics(path: pathlib.Path, metrics: Metrics) -> None:
    """Adds a line, on the disk when this returns; null stands for NaN and infinity."""
    append_line(path, _line(metrics))


def read_metrics(path: pathlib.Path) -> list[Metrics]:
    """All whole lines by step; of two with the same step, the later one."""
    return _read(path)[0]


def metrics_up_to(path: pathlib.Path, step: int) -> list[Metrics]:
    """Those that a run has which goes on from a step."""
    return [row for row in read_metrics(path) if row.step <= step]


def drop_metrics_after(
    path: pathlib.Path, step: int, note: Callable[[str], None]
) -> list[Metrics]:
    """Removes damaged lines and those after a step, and returns what is left."""
    kept = metrics_up_to(path, step)
    damaged = _read(path)[1]
    if path.exists():
        replace_file(path, "".join(_line(row) + "\n" for row in kept))
    if damaged:
        note(f"{damaged} damaged lines of {path} are left out.")
    return kept


def set_aside_lost(
    paths: RunPaths, label: str, step: int, steps: int, note: Callable[[str], None]
) -> None:
    """Keeps what a run has of steps after its last checkpoint, which it takes again."""
    if step == steps:
        return
    lost = [row for row in read_metrics(paths.metrics) if row.step > step]
    measures = [
        path for path in (paths.measurements, paths.gradient_noise) if path.exists()
    ]
    last = max([step, *(row.step for row in lost)])
    found = f"only the checkpoint of step {step:,}" if step else "no checkpoint"
    again = (
        f"{label}: there is {found} in {paths.checkpoints}, so it starts again at step "
        f"{step:,}."
    )
    # A kill leaves one evaluation without its checkpoint, and so does divergence.
    if len(lost) <= 1 and (step or not lost or not _is_finite(lost[0])):
        if lost and _is_finite(lost[0]):
            note(f"{again} The evaluation of step {last:,} is made again.")
        if not measures:
            return
    folders = (paths.metrics.with_name(f"earlier-{n}") for n in itertools.count(1))
    folder = next(folder for folder in folders if not folder.exists())
    folder.mkdir()
    kept = [*measures]
    # Copied, as the run goes on with the part of them that has its checkpoint.
    if lost:
        shutil.copy2(paths.metrics, folder)
        kept.append(paths.metrics)
        if paths.tensorboard.is_dir():
            shutil.copytree(paths.tensorboard, folder / paths.tensorboard.name)
            kept.append(paths.tensorboard)
    for path in measures:
        path.rename(folder / path.name)
    names = ", ".join(path.name for path in kept)
    note(f"{again} What was there up to step {last:,} is kept in {folder}: {names}.")


def _is_finite(metrics: Metrics) -> bool:
    return math.isfinite(metrics.batch_loss) and math.isfinite(metrics.train_loss)


def _read(path: pathlib.Path) -> tuple[list[Metrics], int]:
    """The metrics, and how many lines are damaged; the last one a kill may cut."""
    if not path.exists():
        return [], 0
    # Split as bytes: text that is none may hold other ends of lines.
    *lines, last = path.read_bytes().split(b"\n")
    rows = [_parse(line) for line in lines]
    if last:
        cut = _parse(last)
        rows += [] if cut is None else [cut]
    by_step = {row.step: row for row in rows if row is not None}
    return [by_step[step] for step in sorted(by_step)], rows.count(None)


def _parse(line: bytes) -> Metrics | None:
    """What a line holds; None if that is not what `_line` writes."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):  # not UTF-8 is a ValueError too
        return None
    if not isinstance(values, dict) or set(values) != set(Metrics._fields):
        return None
    numbers = {k: math.nan if v is None else v for k, v in values.items()}
    if not all(type(number) in (int, float) for number in numbers.values()):
        return None
    if type(numbers["step"]) is not int:
        return None
    return Metrics(**numbers)


def _line(metrics: Metrics) -> str:
    values = {
        name: value if math.isfinite(value) else None
        for name, value in metrics._asdict().items()
    }
    return json.dumps(values, allow_nan=False)
