"""How long the runs of a grid that are left will take, judged by those so far."""

import math
from collections.abc import Sequence

from heavytail_optax.experiments.methods import MethodName
from heavytail_optax.experiments.runs.result import RunResult


def training_seconds_left(results: Sequence[RunResult]) -> float | None:
    """Training time of all steps that are left, one run after the other.

    A step takes what the steps of the same method took on average. For a method that
    has not come to a step yet, the time is in proportion to the images of a step, which
    is rough.

    Example:
      >>> results = [
      ...     RunResult("sgd", 0, "finished", 100, 100, seconds=10.0, examples_per_step=8),
      ...     RunResult("sgd", 1, "interrupted", 50, 100, seconds=5.0),
      ...     RunResult("shared", 0, "missing", 0, 100, examples_per_step=16),
      ... ]
      >>> training_seconds_left(results)
      25.0
      >>> training_seconds_left(results[2:])
    """
    timed = [result for result in results if result.step and result.seconds]
    if not timed:
        return None
    left = 0.0
    for result in results:
        if result.status in ("finished", "diverged"):
            continue
        rate = _seconds_per_step(timed, result.method)
        if rate is None:
            rate = _seconds_per_image(timed) * (result.examples_per_step or 0.0)
        left += (result.steps - result.step) * rate
    return left


def rough_duration(seconds: float) -> str:
    """A rough time in words.

    Example:
      >>> [rough_duration(seconds) for seconds in (20, 100, 4000, 200_000)]
      ['less than a minute', 'about 2 min', 'about 1 h 7 min', 'about 56 h']
    """
    minutes = math.ceil(seconds / 60)
    if minutes <= 1:
        return "less than a minute"
    if minutes < 60:
        return f"about {minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes} min" if hours < 10 else f"about {hours + 1} h"


def _seconds_per_step(timed: Sequence[RunResult], method: MethodName) -> float | None:
    own = [result for result in timed if result.method == method]
    if not own:
        return None
    return sum(result.seconds or 0.0 for result in own) / sum(r.step for r in own)


def _seconds_per_image(timed: Sequence[RunResult]) -> float:
    known = [result for result in timed if result.examples_per_step]
    images = sum(result.step * (result.examples_per_step or 0.0) for result in known)
    seconds = sum(result.seconds or 0.0 for result in known)
    return seconds / images if images else 0.0
