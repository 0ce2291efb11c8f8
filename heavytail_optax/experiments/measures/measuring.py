"""Measures of a finished run, one after the other, each kept as soon as it is done."""

import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from heavytail_optax.experiments.measure_names import SCALARS, MeasureName
from heavytail_optax.experiments.measures import MEASURES, Problem
from heavytail_optax.experiments.measures.record import (
    Measured,
    read_record,
    same_arguments,
    write_record,
)
from heavytail_optax.experiments.measures.search import Search
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.storage.run_directory import (
    flatness_path,
    sharpness_path,
)
from heavytail_optax.experiments.storage.sharpness_file import (
    read_sharpness,
    write_sharpness,
)


class MeasureObserver(Protocol):
    """Is told what happens, to show it."""

    def measuring(self, label: str, measure: str, done: int, total: int) -> None:
        """So many parts of a measure are done, of how many."""

    def note(self, text: str) -> None:
        """Something the user should know."""


def measure_run(
    directory: pathlib.Path,
    label: str,
    problem: Problem,
    search: Search,
    names: Sequence[MeasureName],
    observer: MeasureObserver,
    should_stop: Callable[[], bool] = lambda: False,
    again: bool = False,
) -> bool:
    """Measures what is not measured yet with the same arguments.

    Args:
      directory: of the run, locked by this process.
      label: of the run, for the observer.
      problem: of the run, which has one method.
      search: how to measure.
      names: of the measures.
      observer: is told what happens.
      should_stop: asked before each measure, and within those that have parts.
      again: whether to measure what is there anew.

    Returns:
      Whether all are there; False only if `should_stop()` was true.
    """
    method = problem.settings.method.method
    path = flatness_path(directory, method)
    record = read_record(path)
    for number, name in enumerate(names, start=1):
        arguments = MEASURES[name].arguments(problem.settings, search)
        known = record.get(name)
        if known is not None and not again:
            if same_arguments(known.arguments, arguments):
                _merge_scalars(sharpness_path(directory, method), known)
                continue
            observer.note(
                f"{label}: {name} is measured anew, as it was measured with "
                f"{_difference(known.arguments, arguments)}"
            )
        shown = f"{name} ({number} of {len(names)})" if len(names) > 1 else name
        show = functools.partial(observer.measuring, label, shown)
        measured = _compute(problem, name, arguments, show, should_stop)
        if measured is None:
            return False
        record[name] = measured
        write_record(path, record)
        _merge_scalars(sharpness_path(directory, method), measured)
        show(1, 1)
    return True


def is_measured(
    directory: pathlib.Path,
    settings: Settings,
    search: Search,
    names: Sequence[MeasureName],
) -> bool:
    """Whether `measure_run` would find everything there.

    Args:
      directory: of the run.
      settings: of the run, which has one method.
      search: how to measure.
      names: of the measures.
    """
    method = settings.method.method
    record = read_record(flatness_path(directory, method))
    kept = read_sharpness(sharpness_path(directory, method))
    return all(
        name in record
        and same_arguments(
            record[name].arguments, MEASURES[name].arguments(settings, search)
        )
        and set(SCALARS[name]) <= set(kept)
        for name in names
    )


def _compute(
    problem: Problem,
    name: MeasureName,
    arguments: Mapping[str, Any],
    show: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> Measured | None:
    def tick(done: int, total: int) -> bool:
        if should_stop():
            return True
        show(done, total)
        return False

    started = time.monotonic()
    outcome = MEASURES[name].measure(problem, arguments, tick)
    if outcome is None:
        return None
    return Measured(arguments, outcome, time.monotonic() - started)


def _merge_scalars(path: pathlib.Path, measured: Measured) -> None:
    kept = read_sharpness(path)
    merged = {**kept, **measured.outcome.scalars}
    if merged != kept:
        write_sharpness(path, merged)


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words: "target 0.2 instead of 0.1"."""
    changed = [
        f"{name} {then.get(name)} instead of {now.get(name)}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
    return ", ".join(changed)
