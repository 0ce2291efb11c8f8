"""The metrics of a run as JSON lines: `pandas.read_json(path, lines=True)`."""

import json
import math
import pathlib
from collections.abc import Callable

from heavytail_optax.experiments.storage.durable_files import append_line, replace_file
from heavytail_optax.experiments.training.trainer import Metrics


def append_metrics(path: pathlib.Path, metrics: Metrics) -> None:
    """Adds a line, on the disk when this returns; null stands for NaN and infinity."""
    append_line(path, _line(metrics))


def read_metrics(path: pathlib.Path) -> list[Metrics]:
    """All whole lines by step; of two with the same step, the later one."""
    return _read(path)[0]


def drop_metrics_after(
    path: pathlib.Path, step: int, note: Callable[[str], None] | None = None
) -> list[Metrics]:
    """Removes damaged lines and those after a step, and returns what is left."""
    metrics, damaged = _read(path)
    kept = _up_to(step, metrics)
    if path.exists():
        replace_file(path, "".join(_line(row) + "\n" for row in kept))
    if damaged and note is not None:
        note(f"{damaged} damaged lines of {path} are left out.")
    return kept


def metrics_up_to(path: pathlib.Path, step: int) -> list[Metrics]:
    """The same metrics, for a process that does not write."""
    return _up_to(step, read_metrics(path))


def _up_to(step: int, metrics: list[Metrics]) -> list[Metrics]:
    return [row for row in metrics if row.step <= step]


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
