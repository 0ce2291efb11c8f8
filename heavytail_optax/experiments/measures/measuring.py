"""Measures of a finished run, one after the other, each kept as soon as it is done."""

import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from heavytail_optax.experiments.measure_names import MeasureName
from heavytail_optax.experiments.measures import MEASURES, Problem
from heavytail_optax.experiments.measures.record import (
    Measured,
    read_record,
    same_arguments,
    write_record,
)
from heavytail_optax.experiments.measures.search import Search
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.storage.durable_files import set_aside_damaged


class MeasureObserver(Protocol):
    """Callbacks that report progress to the user."""

    def measuring(self, label: str, measure: str, done: int, total: int) -> None:
        """So many parts of a measure are done, of how many."""

    def note(self, text: str) -> None:
        """Something the user should know."""


def measure_run(
    path: pathlib.Path,
    label: str,
    problem: Problem,
    search: Search,
    names: Sequence[MeasureName],
    observer: MeasureObserver,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Measures what is not yet in the file at `path`; False if `should_stop()` was true."""
    record = read_record(path)
    if not record and path.exists():
        damaged = set_aside_damaged(path)
        observer.note(
            f"{label}: {path} cannot be read, so all is measured anew. It is kept as "
            f"{damaged}."
        )
    for number, name in enumerate(names, start=1):
        arguments = MEASURES[name].arguments(problem.settings, search)
        known = record.get(name)
        if known is not None and not known.to_repeat:
            if same_arguments(known.arguments, arguments):
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
        show(1, 1)
    return True


def ask_again(path: pathlib.Path, names: Sequence[MeasureName]) -> None:
    """Marks what is there to be measured again; reports show it until then."""
    record = read_record(path)
    asked = {
        name: record[name]._replace(to_repeat=True) for name in names if name in record
    }
    if asked:
        write_record(path, {**record, **asked})


def is_measured(
    path: pathlib.Path,
    settings: Settings,
    search: Search,
    names: Sequence[MeasureName],
) -> bool:
    """Whether `measure_run` would find everything there."""
    record = read_record(path)
    return all(
        name in record
        and not record[name].to_repeat
        and same_arguments(
            record[name].arguments, MEASURES[name].arguments(settings, search)
        )
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


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words: "target 0.2 instead of 0.1"."""
    changed = [
        f"{name} {then.get(name)} instead of {now.get(name)}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
    return ", ".join(changed)
