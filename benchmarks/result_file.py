"""The CSV file of a benchmark: its rows, and what must be known to obtain them again."""

import contextlib
import csv
import fcntl
import pathlib
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import jax
import optax


def provenance(rounds: int) -> dict[str, str]:
    """Device, versions and commit."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        check=False,
        capture_output=True,
        text=True,
    )
    device = jax.devices()[0]
    return {
        "rounds": str(rounds),
        "device": f"{device.platform} {device.device_kind}, {platform.machine()}",
        "python": sys.version.split()[0],
        "jax": jax.__version__,
        "optax": optax.__version__,
        "commit": commit.stdout.strip() or "unknown",
    }


@contextlib.contextmanager
def end_of(path: pathlib.Path) -> Iterator[tuple[TextIO, bool]]:
    """The end of a file that several processes add rows to, and whether it is new."""
    with path.open("a", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file, file.seek(0, 2) == 0


def write(path: str | None, rows: Sequence[Mapping[str, Any]], rounds: int) -> None:
    """Writes the rows with their provenance; does nothing without a path."""
    if path is None:
        return
    extra = provenance(rounds)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *extra])
        writer.writeheader()
        writer.writerows({**row, **extra} for row in rows)
