"""The metrics of a run: JSON lines, for pandas, and event files, for TensorBoard."""

import contextlib
import importlib.util
import itertools
import json
import math
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence

from ..durable_files import append_line, replace_file
from ..errors import USAGE, JobError
from ..training.trainer import Metrics
from .run_directory import RunPaths


def append_metrics(path: pathlib.Path, metrics: Metrics) -> None:
    """Adds a line, on the disk when this returns; null stands for NaN and infinity."""
    append_line(path, _line(metrics))


def read_metrics(path: pathlib.Path) -> list[Metrics]:
    """All whole lines by step; of two with the same step, the later one."""
    return _read(path)[0]


def drop_metrics_after(
    path: pathlib.Path, step: int, note: Callable[[str], None]
) -> list[Metrics]:
    """Removes damaged lines and those after a step, and returns what is left."""
    rows, damaged = _read(path)
    kept = [row for row in rows if row.step <= step]
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
    kept = [
        path for path in (paths.measurements, paths.gradient_noise) if path.exists()
    ]
    last = max([step, *(row.step for row in lost)])
    found = f"only the checkpoint of step {step:,}" if step else "no checkpoint"
    again = (
        f"{label}: there is {found} in {paths.checkpoints}, so it starts again at step "
        f"{step:,}."
    )
    # A kill leaves one evaluation without its checkpoint, and so does divergence.
    is_finite = bool(lost) and lost[0].is_finite
    if len(lost) <= 1 and (step or not is_finite):
        if is_finite:
            note(f"{again} The evaluation of step {last:,} is made again.")
        if not kept:
            return
    folders = (paths.metrics.with_name(f"earlier-{n}") for n in itertools.count(1))
    folder = next(folder for folder in folders if not folder.exists())
    folder.mkdir()
    for path in kept:
        path.rename(folder / path.name)
    # Copied, as the run goes on with the part of them that has its checkpoint.
    if lost:
        kept.append(pathlib.Path(shutil.copy2(paths.metrics, folder)))
        if paths.tensorboard.is_dir():
            copy = folder / paths.tensorboard.name
            kept.append(shutil.copytree(paths.tensorboard, copy))
    names = ", ".join(path.name for path in kept)
    note(f"{again} What was there up to step {last:,} is kept in {folder}: {names}.")


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
        row = Metrics(**{k: math.nan if v is None else v for k, v in values.items()})
    # Not UTF-8 is a ValueError too.
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    are_numbers = all(type(number) in (int, float) for number in row)
    return row if are_numbers and type(row.step) is int else None


def _line(metrics: Metrics) -> str:
    values = {
        name: value if math.isfinite(value) else None
        for name, value in metrics._asdict().items()
    }
    return json.dumps(values, allow_nan=False)


_TAGS = {
    "batch_loss": "loss/batches",
    "train_loss": "loss/train",
    "test_loss": "loss/test",
    "train_accuracy": "accuracy/train",
    "test_accuracy": "accuracy/test",
    "update_norm": "update_norm/median",
    "largest_update_norm": "update_norm/largest",
    "truncated": "update_norm/truncated_share",
    "max_norm": "update_norm/bound",
    "seconds": "time/seconds",
}


@contextlib.contextmanager
def tensorboard_log(
    directory: pathlib.Path, history: Sequence[Metrics] = ()
) -> Iterator[Callable[[Metrics], None]]:
    """Gives a function that adds a point to every curve, after those of the history."""
    check_tensorboard()
    # No SummaryWriter: on a full disk its thread ends, and the process then hangs.
    from tensorboardX import RecordWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

    directory.mkdir(parents=True, exist_ok=True)
    now = time.time()
    path = directory / f"events.out.tfevents.{time.time_ns()}"
    with contextlib.closing(RecordWriter(str(path))) as writer:

        def add(event: Event) -> None:
            writer.write(event.SerializeToString())
            writer.flush()

        def write(metrics: Metrics, wall_time: float | None = None) -> None:
            points = [
                Summary.Value(tag=tag, simple_value=getattr(metrics, name))
                for name, tag in _TAGS.items()
                if name != "max_norm" or math.isfinite(metrics.max_norm)
            ]
            summary = Summary(value=points)
            at = wall_time or time.time()
            add(Event(wall_time=at, step=metrics.step, summary=summary))

        add(Event(wall_time=now, file_version="brain.Event:2"))
        # TensorBoard then drops all points of earlier files: the history has them.
        start = SessionLog(status=SessionLog.START)
        add(Event(wall_time=now, session_log=start))
        for metrics in history:
            write(metrics, now - (history[-1].seconds - metrics.seconds))
        yield write


def check_tensorboard() -> None:
    """Refuses if event files cannot be written."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise JobError(
            "Event files for TensorBoard need tensorboardX. Install with: "
            'pip install "heavytail-optax[tensorboard]"',
            exit_status=USAGE,
        )
