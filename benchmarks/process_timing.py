"""Time and memory of something that runs in a process of its own, whenever asked to.

Needs Linux, for the number of processors and for the memory of one call.
"""

import ctypes
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import NamedTuple


class Call(NamedTuple):
    """One call."""

    value: float
    wall: float  # seconds
    processor: float  # seconds, all threads together
    peak: float  # resident memory above that before the call, MiB


def limit_threads(threads: int) -> None:
    """Keeps this process on so many processors; before JAX or PyTorch starts threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _resident(field: str) -> float:
    """VmRSS, the resident memory, or VmHWM, its peak; MiB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024.0
    raise LookupError(field)


def timed(measure: Callable[[], float]) -> Call:
    """One call, alone in memory that is given back before it."""
    # Gives back what is free already, and forgets the peak so far.
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    wall, processor = time.perf_counter(), time.process_time()
    value = measure()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return Call(value, wall, processor, _resident("VmHWM") - before)


def serve(connection: Connection, measure: Callable[[], float]) -> None:
    """Answers with the first `Call`, and with another one for each `True` received."""
    connection.send(timed(measure))
    while connection.recv():
        # Threads of the one before may spin on for a while after their work.
        measure()
        connection.send(timed(measure))


def serve_each(
    connection: Connection, measures: Mapping[str, Callable[[], float]]
) -> None:
    """Answers each name received with a `Call`; an empty name ends it.

    The first answer to a name is of its first call, which compiles; later ones are of a
    call after an untimed one, as threads may spin on for a while after other work.
    """
    known: set[str] = set()
    while name := connection.recv():
        if name in known:
            measures[name]()
        known.add(name)
        connection.send(timed(measures[name]))
