"""What a setting or an option accepts, declared beside the field, and one check of all.

A field says what it accepts by its type and, where that is not enough, by a rule:
`steps: Annotated[int, POSITIVE_INTEGER]`. `check_fields` checks every field of a dataclass.
"""

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from .errors import USAGE, DataError


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which numbers a field accepts."""

    accepted: str
    """In words, for the message of the error: "a positive number"."""
    is_valid: Callable[[Any], bool]


def at_least(smallest: int) -> Rule:
    """A rule for integers."""
    return Rule(
        f"an integer of at least {smallest}",
        lambda value: isinstance(value, int) and value >= smallest,
    )


POSITIVE_INTEGER = Rule(
    "a positive integer", lambda value: isinstance(value, int) and value > 0
)
POSITIVE_NUMBER = Rule(
    "a positive number", lambda value: math.isfinite(value) and value > 0
)
NOT_NEGATIVE = Rule(
    "a number of at least 0", lambda value: math.isfinite(value) and value >= 0
)
FROM_0_TO_1 = Rule("a number from 0 to 1", lambda value: 0 <= value <= 1)
FROM_0_TO_BELOW_1 = Rule("a number from 0 to below 1", lambda value: 0 <= value < 1)
ABOVE_0_TO_1 = Rule("a number above 0, at most 1", lambda value: 0 < value <= 1)
BETWEEN_0_AND_1 = Rule("a number above 0 and below 1", lambda value: 0 < value < 1)
SEED = Rule(
    f"an integer from 0 to {2**32 - 1}",
    lambda value: isinstance(value, int) and 0 <= value < 2**32,
)


UNSET = tyro.conf.arg(
    help_behavior_hint=lambda value: "" if value == "None" else f"(default: {value})"
)
"""For a field that may be None: its help says in words what that stands for."""


def sourced(value: Any, source: str) -> Any:
    """The default of a field, and where it comes from."""
    return dataclasses.field(default=value, metadata={"source": source})


def message(name: str, accepted: str, value: Any, noun: str = "setting") -> str:
    """The one wording of all errors in settings and options."""
    return f"The `{name}` {noun} must be {accepted}. Got {value!r} instead."


def either(words: Iterable[str]) -> str:
    """Several words as a choice: "a, b or c"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def misfit(name: str, accepted: str, value: Any, noun: str = "setting") -> DataError:
    """The error for a value that does not fit the data; what was typed is wrong."""
    return DataError(message(name, accepted, value, noun), exit_status=USAGE)


def changed_options(instance: Any) -> dict[str, Any]:
    """The options that are not as by default, as they are typed -> their values."""
    return {
        f"--{field.name.replace('_', '-')}": value
        for field in dataclasses.fields(instance)
        if (value := getattr(instance, field.name)) != field.default
    }


class Declared(NamedTuple):
    """What a field says that it accepts."""

    kinds: tuple[Any, ...]  # types of its values, without None
    may_be_none: bool
    is_required: bool
    rule: Rule | None
    extras: Sequence[Any]  # of `Annotated`


@functools.cache
def declared(kind: Any) -> Mapping[str, Declared]:
    """Name of a field of a dataclass -> what it accepts."""
    found = {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, extras = hints[field.name], []
        if typing.get_origin(hint) is Annotated:
            hint, *extras = typing.get_args(hint)
        is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        kinds = typing.get_args(hint) if is_union else (hint,)
        others = tuple(each for each in kinds if each is not types.NoneType)
        may_be_none = len(others) < len(kinds)
        is_required = field.default is dataclasses.MISSING
        rule = next((each for each in extras if isinstance(each, Rule)), None)
        found[field.name] = Declared(others, may_be_none, is_required, rule, extras)
    return found


def check_fields(instance: Any, noun: str = "setting") -> None:
    """Checks every field of a dataclass: rules, words, tuples of words and booleans."""
    for name, field in declared(type(instance)).items():
        value, rule = getattr(instance, name), field.rule
        if value is None and field.may_be_none:
            continue
        kind = field.kinds[0] if len(field.kinds) == 1 else Any
        is_tuple = typing.get_origin(kind) is tuple
        of = typing.get_args(kind)[0] if is_tuple else kind
        words = typing.get_args(of) if typing.get_origin(of) is Literal else ()
        if is_tuple and words and not (isinstance(value, tuple) and value):
            raise ValueError(message(name, "a tuple of one or more names", value, noun))
        for each in value if isinstance(value, tuple) else (value,):
            if rule is not None:
                _check_number(name, each, rule, noun)
            elif words and each not in words:
                accepted = " or ".join(map(repr, words))
                raise ValueError(message(name, accepted, each, noun))
            elif kind is bool and not isinstance(each, bool):
                raise TypeError(message(name, "True or False", each, noun))
        if is_tuple and words and len(set(value)) < len(value):
            raise ValueError(message(name, "without repetition", value, noun))


def _check_number(name: str, value: Any, rule: Rule, noun: str) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message(name, rule.accepted, value, noun))
    if not rule.is_valid(value):
        raise ValueError(message(name, rule.accepted, value, noun))
