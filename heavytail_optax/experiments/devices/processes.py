"""What the processes of one job agree on. Each call waits for all of them.

With one process they give back what they are given, at no cost.
"""

import contextlib
import zlib
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from heavytail_optax.experiments.errors import JobError


def of_first_process(number: int) -> int:
    """The number that the first process has, in all of them."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def in_any_process(is_true: bool) -> bool:
    """Whether it is true in one of the processes at least."""
    if jax.process_count() == 1:
        return is_true
    return bool(multihost_utils.process_allgather(np.bool_(is_true)).any())


def differs_from_first(text: str) -> bool:
    """Whether this process has another text than the first one has."""
    checksum = zlib.crc32(text.encode()) >> 1
    return checksum != of_first_process(checksum)


@contextlib.contextmanager
def in_all_or_none() -> Iterator[None]:
    """Work that fails in all processes where it fails in one.

    Without it, the others would wait for the one that failed. Inside there must be
    nothing that waits for other processes.

    Example:
      >>> with in_all_or_none():
      ...     print("work")
      work
    """
    if jax.process_count() == 1:
        yield
        return
    problem = None
    try:
        yield
    # Raised again, when the others know.
    except Exception as error:  # noqa: BLE001
        problem = error
    if in_any_process(problem is not None):
        raise problem or JobError("Another process cannot go on; it says why.")
