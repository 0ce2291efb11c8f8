"""The metrics of a run: JSON lines, for pandas, and event files, for TensorBoard.

A line is of an evaluation, or of a measurement of the sharpness, which has other columns.
"""

import contextlib
import importlib.util
import itertools
import json
import math
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..errors import USAGE, JobError
from ..files import append_line, replace_file
from ..training.following import Sharpness
from ..training.trainer import Metrics
from .run_directory import RunPaths


class MetricsLog(NamedTuple):
    """What the file has, each in the order of the steps."""

    evaluations: list[Metrics]
    sharpness: list[Sharpness]

    def up_to(self, step: int) -> "MetricsLog":
        """What is not after a step."""
        return MetricsLog(
            [row for row in self.evaluations if row.step <= step],
            [row for row in self.sharpness if row.step <= step],
        )

    @property
    def rows(self) -> list[Metrics | Sharpness]:
        """All lines, in the order of the steps."""
        return sorted([*self.evaluations, *self.sharpness], key=lambda row: row.step)


def append_metrics(path: pathlib.Path, metrics: Metrics | Sharpness) -> None:
    """Adds a line, on the disk when this returns; null stands for NaN and infinity."""
    append_line(path, _line(metrics))


def read_metrics(path: pathlib.Path) -> list[Metrics]:
    """The evaluations: all whole lines by step; of two with one step, the later one."""
    return read_log(path).evaluations


def read_log(path: pathlib.Path) -> MetricsLog:
    """The evaluations and the measurements, each as `read_metrics` has them."""
    return _read(path)[0]


def drop_metrics_after(
    path: pathlib.Path, step: int, note: Callable[[str], None]
) -> MetricsLog:
    """Removes damaged lines and those after a step, and returns what is left."""
    log, damaged = _read(path)
    kept = log.up_to(step)
    if path.exists():
        replace_file(path, "".join(_line(row) + "\n" for row in kept.rows))
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
    measured = (paths.measurements, paths.layers, paths.gradient_noise)
    kept = [path for path in measured if path.exists()]
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


def _read(path: pathlib.Path) -> tuple[MetricsLog, int]:
    """The metrics, and how many lines are damaged; the last one a kill may cut."""
    if not path.exists():
        return MetricsLog([], []), 0
    # Split as bytes: text that is none may hold other ends of lines.
    *lines, last = path.read_bytes().split(b"\n")
    rows = [_parse(line) for line in lines]
    if last:
        cut = _parse(last)
        rows += [] if cut is None else [cut]
    evaluations = {row.step: row for row in rows if isinstance(row, Metrics)}
    sharpness = {row.step: row for row in rows if isinstance(row, Sharpness)}
    log = MetricsLog(
        [evaluations[step] for step in sorted(evaluations)],
        [sharpness[step] for step in sorted(sharpness)],
    )
    return log, rows.count(None)


def _parse(line: bytes) -> Metrics | Sharpness | None:
    """What a line holds; None if that is not what `_line` writes."""
    try:
        values = json.loads(line)
        kind = Sharpness if "learning_rate" in values else Metrics
        row = kind(**{k: math.nan if v is None else v for k, v in values.items()})
    # Not UTF-8 is a ValueError too.
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    are_numbers = all(type(number) in (int, float) for number in row)
    return row if are_numbers and type(row.step) is int else None


def _line(metrics: Metrics | Sharpness) -> str:
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
_SHARPNESS_TAGS = {
    "learning_rate": "sharpness/learning_rate",
    "critical_sharpness": "sharpness/critical",
    "top_eigenvalue": "sharpness/top_eigenvalue",
    "expected_sharpness": "sharpness/expected",
}


@contextlib.contextmanager
def tensorboard_log(
    directory: pathlib.Path, history: Sequence[Metrics | Sharpness] = ()
) -> Iterator[Callable[[Metrics | Sharpness], None]]:
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

        def write(metrics: Metrics | Sharpness, wall_time: float | None = None) -> None:
            is_sharpness = isinstance(metrics, Sharpness)
            tags = _SHARPNESS_TAGS if is_sharpness else _TAGS
            # What a run does not have is no curve; a loss that is NaN is one.
            points = [
                Summary.Value(tag=tag, simple_value=value)
                for name, tag in tags.items()
                if math.isfinite(value := getattr(metrics, name))
                or not (is_sharpness or name == "max_norm")
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
