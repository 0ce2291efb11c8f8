"""The scalar measures of a finished run, as reports read them, beside its metrics."""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from heavytail_optax.experiments.storage.durable_files import replace_file

Sharpness = Mapping[str, tuple[float, float | None]]
"""Name -> value and the standard error of its own sampling, None if it has none."""


def write_sharpness(path: pathlib.Path, sharpness: Sharpness) -> None:
    """Keeps the measures as JSON, all at once or not at all.

    A value that is not finite is written as null, which JSON has.

    Args:
      path: of the file.
      sharpness: of a run.
    """
    values = {
        name: {"value": _or_none(value), "standard_error": _or_none(error)}
        for name, (value, error) in sharpness.items()
    }
    replace_file(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def read_sharpness(path: pathlib.Path) -> Sharpness:
    """What was kept; nothing if there is no such file, or it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: (_number(entry["value"]), _error(entry["standard_error"]))
            for name, entry in values.items()
        }
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _error(value: Any) -> float | None:
    return None if value is None else float(value)
