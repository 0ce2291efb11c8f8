"""config.json of a run: all that is needed to run it again, or to go on with it."""

import contextlib
import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Iterator
from typing import Any

from ..files import replace_file
from ..flat_settings import flat, from_flat
from ..settings import Settings
from .run_directory import RunDirectoryError

_PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy", "scikit-learn")
_FORMAT = 3
_ENTRIES = {
    **dict.fromkeys(("preset", "command", "device"), str),
    **dict.fromkeys(("settings", "sources", "data", "versions"), dict),
}


def write_config(path: pathlib.Path, settings: Settings, **others: Any) -> None:
    """Writes the entries above; the file is on the disk when this returns."""
    config = {
        "format": _FORMAT,
        "settings": flat(settings),
        **others,
        "versions": versions(),
    }
    replace_file(path, json.dumps(config, indent=2) + "\n")


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """What `write_config` wrote; `settings` is a `Settings`, checked."""
    config = read_json(path)
    with understood(path):
        _check(config)
        return {**config, "settings": from_flat(config["settings"])}


@contextlib.contextmanager
def understood(path: pathlib.Path) -> Iterator[None]:
    """Turns what is wrong with the values of a file into a `RunDirectoryError`."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problem = str(error).removesuffix(".")
        raise RunDirectoryError(
            f"{path} is not understood: {problem}. Choose another directory, or put the "
            "file back."
        ) from error


def read_json(path: pathlib.Path) -> Any:
    """What a JSON file of a run or a grid holds; a RunDirectoryError if it cannot be read."""
    try:
        with understood(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        problem = f"There is nothing to go on with in {path.parent}: {path} is missing."
        raise RunDirectoryError(problem) from error
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror}.") from error


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a run depends on."""
    names = ("heavytail-optax", *_PACKAGES)
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found}


def _check(config: Any) -> None:
    """Raises if these cannot be the entries of config.json."""
    if not isinstance(config, dict):
        raise TypeError("it holds no JSON object.")
    number = config.get("format", 1)
    if number != _FORMAT:
        recorded = config.get("versions")
        by = recorded.get("heavytail-optax") if isinstance(recorded, dict) else None
        raise ValueError(
            f"its format is {number!r}, and this version reads {_FORMAT}. Go on with "
            f"the version that wrote it: heavytail-optax {by or 'unknown'}."
        )
    for name, kind in _ENTRIES.items():
        if not isinstance(config.get(name), kind):
            raise TypeError(f"its entry `{name}` is missing or of the wrong type.")
