"""How every command reads what was typed: its help, and a line on each mistake.

A word is looked at before tyro has it: its messages are long, and have names of ours.
"""

import contextlib
import dataclasses
import difflib
import io
import pathlib
import re
import shutil
import sys
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, TypeVar

import tyro

from ..errors import USAGE, JobError
from ..setting_rules import Declared, declared, either

_Options = TypeVar("_Options")
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
NoCache = Annotated[
    Flag,
    tyro.conf.arg(
        help="Compile all programs and decode all images anew, and keep none. By default "
        "they are kept in the user's cache directory for the next command, at most 256 MiB "
        "of programs and 4 GiB of images."
    ),
]
"""The option that all commands with a cache have."""


def parse(
    kind: type[_Options],
    program: str,
    arguments: Sequence[str],
    description: str,
    default: Callable[[], _Options] | None = None,
) -> _Options:
    """The options that were typed; after a mistake, a line on each, and exit status 2."""
    is_help = bool({"-h", "--help"} & {*arguments})
    if is_help:
        # tyro would join its lines.
        print(description, end="\n\n")
    elif lines := mistakes(kind, program.split()[-1], arguments):
        refuse("\n".join(lines), program)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                kind,
                prog=program,
                args=arguments,
                description="",
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
                **({} if default is None else {"default": default()}),
            )
    except (ValueError, SystemExit) as stop:
        if isinstance(stop, SystemExit) and not stop.code:
            raise
        refuse(_own_words(stop, kind) or said.getvalue(), program)


def refuse(text: str, program: str) -> NoReturn:
    """Says what is wrong, and ends with exit status 2."""
    print(text.rstrip(), file=sys.stderr)
    print(f"The options are in: {program} --help", file=sys.stderr)
    raise SystemExit(USAGE)


def _own_words(stop: BaseException, kind: type) -> str:
    """The message of a check of ours, which tyro exits after."""
    error: BaseException | None = stop
    found = ""
    while error is not None:
        if type(error) is ValueError:
            found = str(error)
        error = error.__context__
    return as_typed(found, kind)


def filled(text: str) -> str:
    """Paragraphs as wide as the terminal."""
    width = shutil.get_terminal_size().columns
    paragraphs = [" ".join(each.split()) for each in text.strip().split("\n\n")]
    return "\n\n".join(
        textwrap.fill(each, width, break_on_hyphens=False) for each in paragraphs
    )


def listed(heading: str, summaries: Mapping[str, str]) -> str:
    """Names with what they are, in two columns."""
    width, column = shutil.get_terminal_size().columns, max(map(len, summaries)) + 4
    lines = [
        textwrap.fill(
            text,
            width,
            initial_indent=f"  {name}".ljust(column),
            subsequent_indent=" " * column,
            break_on_hyphens=False,
        )
        for name, text in summaries.items()
    ]
    return "\n".join([heading, *lines])


# What other programs call an option -> what it may be called here.
_OTHER_NAMES: Mapping[str, Sequence[str]] = {
    name: names
    for others, names in {
        "lr eta step-size": ["learning-rate"],
        "lrs etas": ["learning-rates"],
        "bs batch batchsize": ["batch-size"],
        "b": ["max-norm", "batch-size"],
        "clip clip-norm grad-clip max-grad-norm": ["max-norm"],
        "c z-scale": ["inflation-scale"],
        "scale": ["noise-scale", "inflation-scale"],
        "tail-index": ["alpha"],
        "dataset": ["data"],
        "data-path data-root root": ["data-dir"],
        "network arch architecture": ["model"],
        "method optimizer optimiser algorithm": ["methods"],
        "measure": ["measures"],
        "chains num-chains": ["chains", "exits"],
        "epochs num-epochs iterations iters num-steps max-steps": ["steps"],
        "seed": ["seeds"],
        "seeds repeats": ["num-seeds", "seed"],
        "num-seeds": ["seeds", "seed"],
        "gpus num-gpus num-devices device": ["devices"],
        "workers num-workers jobs": ["jobs-at-once"],
        "directory run-dir grid-dir dir out out-dir output output-dir save-dir": [
            "directory"
        ],
    }.items()
    for name in others.split()
}
_EPOCHS = ("epochs", "num-epochs", "epoch", "num-epoch")
_NOT_THERE = {
    "wd": "no weight decay",
    "weight-decay": "no weight decay",
    "momentum": "no momentum",
    "warmup": "no warm-up",
    "warmup-steps": "no warm-up",
}
_CLOSE = 0.65  # of a name and what was typed for it; 1 if they are the same
_KINDS = {int: "an integer", float: "a number", pathlib.Path: "a path"}


class Option(NamedTuple):
    """An option, or a word without a name."""

    kind: Any  # of its values, without None
    takes: int | None  # how many; None for any number
    accepted: str
    is_word: bool  # has no name
    is_required: bool

    def accepts(self, word: str) -> bool:
        """Whether a word is of the kind; whether the value is allowed is seen later."""
        return _accepts(self.kind, word)

    @property
    def names(self) -> tuple[str, ...]:
        """The words to choose from."""
        return _names(self.kind)

    @property
    def colon_accepted(self) -> str:
        """What is accepted, at the end of a sentence; nothing where any word is."""
        return f": {self.accepted}" if self.accepted else ""


def mistakes(kind: type, command: str, arguments: Sequence[str]) -> list[str]:
    """A line for each option that is not there or comes twice, and for each bad value."""
    known, found = options_of(kind), []
    seen: list[str] = []
    free = [name for name, option in known.items() if option.is_word]
    words = [*arguments]
    while words:
        word = words.pop(0)
        if not _is_option(word):
            if free:
                free.pop()
            else:
                found.append(f"{word!r}: this word belongs to no option.")
            continue
        given, equals, value = word.partition("=")
        name = given.lstrip("-").replace("_", "-")
        option = known.get(name)
        name = name if option else name.lower()
        if option is None or option.is_word or not word.startswith("--"):
            found.append(f"{given}: {_no_option(command, name, known)}")
            while words and not _is_option(words[0]):
                words.pop(0)  # which may be its values
            continue
        opposite = name.removeprefix("no-")
        seen.append(opposite if opposite in known else name)
        if seen.count(seen[-1]) == 2:
            found.append(f"The --{seen[-1]} option is given more than once.")
        values = [value] if equals else []
        while words and not _is_option(words[0]):
            if option.takes is not None and len(values) >= option.takes:
                break
            values.append(words.pop(0))
        if option.takes is not None and len(values) > option.takes:
            found.append(f"The --{name} option has no value. Got {value!r}.")
        elif option.takes is not None and len(values) < option.takes:
            found.append(f"The --{name} option needs a value{option.colon_accepted}.")
        elif option.takes is None and option.names and not values:
            found.append(f"The --{name} option needs values: {option.accepted}.")
        for each in values[: option.takes]:
            if not option.accepts(each):
                found.append(_bad_value(name, each, option))
    missing = [name for name in free if known[name].is_required]
    if found or not missing:
        return found
    (name,) = missing
    return [f"The {name} is missing: heavytail {command} {name.upper()}"]


def as_typed(text: str, kind: type) -> str:
    """A message of ours with the names of options as they are typed."""
    known = options_of(kind)

    def typed(match: re.Match[str]) -> str:
        name = match[1].replace("_", "-")
        if name not in known or known[name].is_word:
            return match[0]
        return f"--{name} option" if match[2] else f"--{name}"

    return re.sub(r"`([a-z_0-9]+)`( setting| option)?", typed, text)


def error_as_typed(error: JobError, kind: type) -> str:
    """The message of an error; what is wrong in a file is called as it is in the file."""
    text = str(error)
    is_of_options = error.exit_status == USAGE or text.startswith("The `")
    return as_typed(text, kind) if is_of_options else text


def options_of(kind: Any) -> dict[str, Option]:
    """All options of a command by their names, those of nested groups as well."""
    found: dict[str, Option] = {}
    for name, field in declared(kind).items():
        if dataclasses.is_dataclass(field.kinds[0]):
            found |= options_of(field.kinds[0])
        elif tyro.conf.Suppress not in field.extras:
            typed, option = name.replace("_", "-"), _option(field)
            found[typed] = option
            has_opposite = tyro.conf.FlagCreatePairsOff not in field.extras
            if option.takes == 0 and has_opposite:
                found[f"no-{typed}"] = option
    return found


def _option(field: Declared) -> Option:
    kinds = field.kinds
    takes = 0 if kinds == (bool,) else 1
    if typing.get_origin(kinds[0]) is tuple:
        kinds, takes = typing.get_args(kinds[0])[:1], None
    accepted = field.rule.accepted if field.rule else _in_words(kinds)
    is_word = tyro.conf.Positional in field.extras
    return Option(kinds, takes, accepted, is_word, field.is_required)


def _names(kinds: Sequence[Any]) -> tuple[str, ...]:
    literal = [each for each in kinds if typing.get_origin(each) is Literal]
    return tuple(name for each in literal for name in typing.get_args(each))


def _accepts(kinds: Sequence[Any], word: str) -> bool:
    if word in _names(kinds):
        return True
    numbers = [each for each in kinds if each in _KINDS]
    for each in numbers:
        try:
            each(word)
        except ValueError:
            continue
        return True
    return not numbers and not _names(kinds)


def _in_words(kinds: Sequence[Any]) -> str:
    words = [*_names(kinds), *(_KINDS[each] for each in kinds if each in _KINDS)]
    return either(words) if words else ""


def _is_option(word: str) -> bool:
    """Whether it begins as options do, and is no negative number."""
    return re.match(r"-(-|[^-.\d])", word) is not None


def _no_option(command: str, name: str, known: Mapping[str, Option]) -> str:
    """What is said of an option that is not there, with the one that may be meant."""
    if name in _NOT_THERE:
        return f"{command} has {_NOT_THERE[name]}."
    problem = f"{command} has no such option."
    plural = f"{name}s"
    others = _OTHER_NAMES.get(name) or _OTHER_NAMES.get(plural, ())
    names = [each for each in others if each in known]
    if plural in known:
        names = [plural]
    if names and known[names[0]].is_word:
        return f"{problem} Give the {names[0]} alone, without an option's name."
    options = [each for each, option in known.items() if not option.is_word]
    if not names:
        longer = [each for each in options if name and each.startswith(name)]
        names = longer[:3] or difflib.get_close_matches(name, options, n=1)
    if not names:
        return problem
    note = " A step is one batch." if names == ["steps"] and name in _EPOCHS else ""
    meant = either([f"--{each}" for each in names])
    return f"{problem} Did you mean {meant}?{note}"


def _bad_value(name: str, value: str, option: Option) -> str:
    text = f"The --{name} option must be {option.accepted}. Got {value!r} instead."
    close = difflib.get_close_matches(value, option.names, cutoff=_CLOSE)
    return f"{text} Did you mean {either(close)}?" if close else text
