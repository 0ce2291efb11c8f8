"""Where the commands keep for this user what they can make again."""

import os
import pathlib
import sys
from collections.abc import Mapping


def user_cache(
    kind: str, environment: Mapping[str, str] = os.environ
) -> pathlib.Path | None:
    """The directory for files of a kind; None for a user without a home directory."""
    if sys.platform == "win32":
        place = environment.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        place = "~/Library/Caches"
    else:
        place = environment.get("XDG_CACHE_HOME", "")
        # The rule of XDG: a relative path counts as none.
        place = place if os.path.isabs(place) else "~/.cache"
    whole = expanded(pathlib.Path(place))
    return whole / "heavytail-optax" / kind if whole.is_absolute() else None


def expanded(path: pathlib.Path) -> pathlib.Path:
    """With the home directory for ~; as it is where there is none, which is no error."""
    return pathlib.Path(os.path.expanduser(path))
