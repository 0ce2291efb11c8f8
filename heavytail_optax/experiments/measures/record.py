"""What has been measured of a run: measurements.json, by the name of the measure."""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from heavytail_optax.experiments.measures.measure import Arguments, Measurement
from heavytail_optax.experiments.storage.durable_files import replace_file

_DAMAGE = ValueError, TypeError, KeyError, AttributeError, RecursionError


class Measured(NamedTuple):
    """A measure of a run."""

    arguments: Arguments
    outcome: Measurement
    seconds: float  # compilation included
    to_repeat: bool = False  # asked for again, and not yet measured again


def write_record(path: pathlib.Path, record: Mapping[str, Measured]) -> None:
    """Keeps what has been measured, all at once or not at all."""
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
    # JSON has no NaN and no infinity: they are null.
    finite = json.loads(json.dumps(values), parse_constant=lambda _: None)
    replace_file(path, json.dumps(finite, allow_nan=False) + "\n")


def read_record(path: pathlib.Path) -> dict[str, Measured]:
    """What was kept; nothing if there is no such file, or it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {name: _measured(entry) for name, entry in values.items()}
    except (FileNotFoundError, *_DAMAGE):
        return {}


def same_arguments(one: Arguments, other: Arguments) -> bool:
    """Whether they are the same when written and read."""
    return json.loads(json.dumps(dict(one))) == json.loads(json.dumps(dict(other)))


def _measured(entry: Mapping[str, Any]) -> Measured:
    scalars = {}
    for name, each in entry["scalars"].items():
        error = each["standard_error"]
        scalars[name] = _number(each["value"]), None if error is None else float(error)
    curves = {
        name: {column: [_number(x) for x in values] for column, values in each.items()}
        for name, each in entry["curves"].items()
    }
    return Measured(
        dict(entry["arguments"]),
        Measurement(scalars, curves, str(entry["remark"])),
        float(entry["seconds"]),
        bool(entry["to_repeat"]),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
