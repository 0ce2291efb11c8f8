"""What differs between the settings of two runs, in words."""

from .settings import Settings, flat


def changed_settings(old: Settings, new: Settings) -> list[str]:
    """One line for each setting that differs, with both values."""
    now = flat(new)
    return [
        f"`{name}` is {value!r} there and {now[name]!r} here"
        for name, value in flat(old).items()
        if value != now[name]
    ]
