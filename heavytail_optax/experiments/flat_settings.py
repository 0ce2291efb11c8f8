"""All settings by their names, whatever their group: for files, options and changes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .settings import Settings

_GROUPS: Mapping[str, Any] = {
    field.name: field.type
    for field in dataclasses.fields(Settings)
    if dataclasses.is_dataclass(field.type)
}


def default_settings() -> dict[str, tuple[Any, str]]:
    """Name of a setting -> its value where a preset has no other, and the source of it."""
    return {
        field.name: (field.default, field.metadata["source"])
        for kind in (*_GROUPS.values(), Settings)
        for field in dataclasses.fields(kind)
        if "source" in field.metadata
    }


def flat(settings: Settings) -> dict[str, Any]:
    """Name of a setting -> its value, of all groups and the seed."""
    groups = [vars(getattr(settings, group)) for group in _GROUPS]
    return {name: value for group in groups for name, value in group.items()} | {
        "seed": settings.seed
    }


def from_flat(values: Mapping[str, Any]) -> Settings:
    """The inverse of `flat`; a missing or an unknown setting is a ValueError."""
    # JSON has lists for tuples.
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    names = {
        group: [field.name for field in dataclasses.fields(kind)]
        for group, kind in _GROUPS.items()
    }
    known = {"seed", *(name for group in names.values() for name in group)}
    for name in sorted(known ^ set(values)):
        problem = "is missing" if name in known else "is not known to this version"
        raise ValueError(f"The `{name}` setting {problem}.")
    groups = {
        group: kind(**{name: values[name] for name in names[group]})
        for group, kind in _GROUPS.items()
    }
    return Settings(**groups, seed=values["seed"])


def replaced(settings: Settings, **changes: Any) -> Settings:
    """The same with other values of some settings, by their names, of whatever group."""
    return from_flat({**flat(settings), **changes})


def changed_settings(old: Settings, new: Settings) -> list[str]:
    """One line for each setting that differs, with both values."""
    now = flat(new)
    return [
        f"`{name}` is {value!r} there and {now[name]!r} here"
        for name, value in flat(old).items()
        if value != now[name]
    ]
