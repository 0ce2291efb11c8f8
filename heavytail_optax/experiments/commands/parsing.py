"""How every command reads what was typed: its help, and a line on each mistake."""

import contextlib
import io
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, NoReturn, TypeVar

import tyro

from ..errors import USAGE
from .mistakes import as_typed, mistakes

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
