"""How every command reads what was typed: its help, and hints where it is not understood."""

import dataclasses
import difflib
import shutil
import sys
import textwrap
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import tyro

_Options = TypeVar("_Options")

# What other programs call an option -> what it may be called here.
_OTHER_NAMES: Mapping[str, Sequence[str]] = {
    name: names
    for others, names in {
        "lr eta step-size": ["learning-rate"],
        "lrs etas": ["learning-rates"],
        "bs batch batchsize": ["batch-size"],
        "b clip clip-norm grad-clip max-grad-norm": ["max-norm"],
        "c z-scale": ["inflation-scale"],
        "scale": ["noise-scale", "inflation-scale"],
        "tail-index": ["alpha"],
        "dataset": ["data"],
        "data-path data-root root": ["data-dir"],
        "network arch architecture": ["model"],
        "method optimizer optimiser algorithm": ["methods"],
        "measure": ["measures"],
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
_NOT_THERE = {
    "wd": "no weight decay",
    "weight-decay": "no weight decay",
    "momentum": "no momentum",
    "warmup": "no warm-up",
    "warmup-steps": "no warm-up",
}


def parse(
    kind: type[_Options],
    program: str,
    arguments: Sequence[str],
    description: str,
    default: _Options | None = None,
    choices: Mapping[str, Collection[str]] | None = None,
) -> _Options:
    """The options that were typed; after an error, hints, and exit status 2."""
    if {"-h", "--help"} & {*arguments}:
        # tyro would join its lines.
        print(description, end="\n\n")
    try:
        return tyro.cli(
            kind,
            prog=program,
            args=arguments,
            description="",
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
            **({} if default is None else {"default": default}),
        )
    except SystemExit as stop:
        if stop.code:
            for hint in hints(kind, arguments, choices or {}):
                print(hint, file=sys.stderr)
        raise


def hints(
    kind: type, arguments: Sequence[str], choices: Mapping[str, Collection[str]]
) -> list[str]:
    """A line for each option, and each word of a list, that is called otherwise here."""
    known, option, found = _option_names(kind), "", []
    for word in arguments:
        if word.startswith("--"):
            option, _, word = word.removeprefix("--").partition("=")
            option = option.replace("_", "-")
            if option not in known or known[option]:
                found += _other_name(option, known)
        names = list(choices.get(option, ()))
        if word and names and word not in names:
            close = difflib.get_close_matches(word, names, n=1)
            found += [f"{word!r}: did you mean {name!r}?" for name in close]
    return found


def _other_name(option: str, known: Mapping[str, bool]) -> list[str]:
    if option in _NOT_THERE:
        return [f"--{option}: there is {_NOT_THERE[option]}."]
    names = [name for name in _OTHER_NAMES.get(option, ()) if name in known]
    if not names:
        return []
    if known[names[0]]:
        return [f"--{option}: give the {names[0]} alone, without an option's name."]
    note = " A step is one batch." * (names == ["steps"])
    return [f"--{option}: did you mean --{' or --'.join(names)}?{note}"]


def _option_names(kind: Any) -> dict[str, bool]:
    """The options of a command, and whether each is a word without a name."""
    names: dict[str, bool] = {}
    hinted = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hinted[field.name]
        if dataclasses.is_dataclass(hint):
            names |= _option_names(hint)
        else:
            is_word = tyro.conf.Positional in getattr(hint, "__metadata__", ())
            names[field.name.replace("_", "-")] = is_word
    return names


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
