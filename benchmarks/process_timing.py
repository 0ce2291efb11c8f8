"""Time and memory of something that runs in a process of its own."""

import os
import resource
import statistics
import time
from collections.abc import Callable


def limit_threads(threads: int) -> None:
    """Keeps this process on so many processors; before JAX or PyTorch is imported."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def timed(measure: Callable[[], float], rounds: int) -> dict[str, float]:
    """Times of the first call and of `rounds` later ones, memory, and the last value."""
    before = _peak_mib()
    wall, processor = [], []
    value = float("nan")
    for _ in range(1 + rounds):
        start = time.perf_counter(), time.process_time()
        value = measure()
        wall.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    return {
        "value": value,
        "first_processor_s": processor[0],
        "processor_s": statistics.median(processor[1:] or processor),
        "wall_s": statistics.median(wall[1:] or wall),
        "peak_mib": _peak_mib() - before,
    }
