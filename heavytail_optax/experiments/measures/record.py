"""What has been measured of a run: measurements.json, beside its metrics.

Name of the measure -> the arguments that it was computed with, scalars, curves, remark
and the time taken.
"""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from heavytail_optax.experiments.measures import Outcome
from heavytail_optax.experiments.storage.durable_files import replace_file


class Measured(NamedTuple):
    """A measure of a run."""

    arguments: Mapping[str, Any]
    outcome: Outcome
    seconds: float  # compilation included
    to_repeat: bool = False  # asked for again, and not yet measured again


def write_record(path: pathlib.Path, record: Mapping[str, Measured]) -> None:
    """Keeps what has been measured, all at once or not at all.

    Numbers that are not finite are written as null, which JSON has.
    """
    values = {
        name: {
            "arguments": dict(measured.arguments),
            "scalars": {
                scalar: {"value": value, "standard_error": error}
                for scalar, (value, error) in measured.outcome.scalars.items()
            },
            "curves": {k: dict(v) for k, v in measured.outcome.curves.items()},
            "remark": measured.outcome.remark,
            "seconds": round(measured.seconds, 1),
            "to_repeat": measured.to_repeat,
        }
        for name, measured in record.items()
    }
    replace_file(path, json.dumps(_finite(values), allow_nan=False) + "\n")


def read_record(path: pathlib.Path) -> dict[str, Measured]:
    """What was kept; nothing if there is no such file, or it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {name: _measured(entry) for name, entry in values.items()}
    except (
        FileNotFoundError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
    ):
        return {}


def same_arguments(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether they are the same when written and read."""
    return json.loads(json.dumps(dict(one))) == json.loads(json.dumps(dict(other)))


def _measured(entry: Mapping[str, Any]) -> Measured:
    scalars = {
        name: (_number(each["value"]), _error(each["standard_error"]))
        for name, each in entry["scalars"].items()
    }
    curves = {
        name: {column: [_number(x) for x in values] for column, values in each.items()}
        for name, each in entry["curves"].items()
    }
    outcome = Outcome(scalars, curves, str(entry["remark"]))
    return Measured(
        dict(entry["arguments"]),
        outcome,
        float(entry["seconds"]),
        bool(entry["to_repeat"]),
    )


def _error(value: float | None) -> float | None:
    return None if value is None else float(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _finite(value: Any) -> Any:
    """The same with None for numbers that are not finite."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
