"""The metrics of a run as JSON lines: `pandas.read_json(path, lines=True)`."""

import json
import math
import os
import pathlib

from heavytail_optax.experiments.training import Metrics


def append_metrics(path: pathlib.Path, metrics: Metrics) -> None:
    """Adds a line. A value that is not finite is written as null, which JSON has.

    Args:
      path: of the file; made if it is not there.
      metrics: to add.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(metrics))
        file.flush()
        os.fsync(file.fileno())


def read_metrics(path: pathlib.Path) -> list[Metrics]:
    """All whole lines; a last line that was cut short is left out.

    Args:
      path: of the file; it need not be there.

    Returns:
      The metrics in the order in which they were added.
    """
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            break
        finite = {k: math.nan if v is None else v for k, v in values.items()}
        rows.append(Metrics(**finite))
    return rows


def drop_metrics_after(path: pathlib.Path, step: int) -> list[Metrics]:
    """Removes the lines of steps that no checkpoint holds: they will come again.

    Args:
      path: of the file; it need not be there.
      step: the last one to keep.

    Returns:
      The metrics that are left.
    """
    kept = [metrics for metrics in read_metrics(path) if metrics.step <= step]
    if path.exists():
        whole = path.with_suffix(".partial")
        whole.write_text("".join(map(_line, kept)), encoding="utf-8")
        whole.replace(path)
    return kept


def _line(metrics: Metrics) -> str:
    values = {
        name: value if math.isfinite(value) else None
        for name, value in metrics._asdict().items()
    }
    return json.dumps(values, allow_nan=False) + "\n"
