"""The command `heavytail`: it finds the subcommand and runs it.

Each subcommand is in a module with `run(name, arguments, program) -> exit status`. The
module is loaded only when it is called. So `--help` stays quick, and it works without
the extra that the subcommand needs.
"""

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from heavytail_optax import __version__


class Commands(NamedTuple):
    """Commands of one module, and what they need."""

    module: str
    needs: tuple[str, ...]  # modules of the extra `experiments`
    summaries: Mapping[str, str]


_ALL = (
    Commands(
        "heavytail_optax.experiments.commands.command",
        (
            "PIL",
            "dm_pix",
            "filelock",
            "flax",
            "matplotlib",
            "pandas",
            "rich",
            "scipy",
            "sklearn",
            "tyro",
        ),
        {
            "train": "train a network on real images with each method",
            "reproduce": "train with several seeds too, and make the paper's table",
            "report": "show the table of reproduce again, finished or not",
            "flatness": "measure how flat the solutions of finished runs are",
            "diagnose": "say whether the noise of finished runs is heavy-tailed",
        },
    ),
    Commands(
        "heavytail_optax.laboratory.command",
        ("filelock", "matplotlib", "rich", "scipy", "tyro"),
        {
            "simulate": "show which noise empties sharp minima, on a landscape of four",
            "exit-times": "measure exit times against the learning rate",
            "markov-chain": "measure jumps between wide minima",
        },
    ),
)
SUBCOMMANDS: Mapping[str, Commands] = MappingProxyType(
    {name: commands for commands in _ALL for name in commands.summaries}
)

_READER_GONE = 141  # as of a program that SIGPIPE ends


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    program = _program()
    try:
        status = _status(arguments, program)
        # While a reader that has gone can still be told from other errors.
        print(end="", flush=True)
        return status
    except BrokenPipeError:
        _discard_output()
        return _READER_GONE
    except OSError as error:  # as of a full disk
        _discard_output()
        print(f"The output cannot be written: {error.strerror}.", file=sys.stderr)
        return 1


def _discard_output() -> None:
    """What is left to be written would fail again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _status(arguments: Sequence[str], program: str) -> int:
    try:
        return _dispatch(arguments, program)
    except SystemExit as stop:
        # tyro and argparse exit this way, after --help (0) and bad options (2).
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _dispatch(arguments: Sequence[str], program: str) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(program))
        return 0
    name, *rest = arguments
    if name == "--version":
        print(f"heavytail-optax {__version__}")
        return 0
    if name not in SUBCOMMANDS:
        print(_not_understood(name, program), file=sys.stderr)
        return 2
    commands = SUBCOMMANDS[name]
    missing = [module for module in commands.needs if not _is_installed(module)]
    if missing:
        print(
            f"{program} {name} needs {', '.join(missing)}. Install with: "
            'pip install "heavytail-optax[experiments]"',
            file=sys.stderr,
        )
        return 2
    return importlib.import_module(commands.module).run(name, rest, program)


def _help(program: str) -> str:
    lines = [
        f"usage: {program} [-h] [--version] SUBCOMMAND [OPTIONS]",
        "",
        "Truncated heavy-tailed SGD: experiments on real data, and the theory's laboratory.",
        "",
        "subcommands:",
        *(f"  {name:<14}{each.summaries[name]}" for name, each in SUBCOMMANDS.items()),
        "",
        f"{program} SUBCOMMAND --help shows the options of one.",
    ]
    return "\n".join(lines)


def _not_understood(name: str, program: str) -> str:
    known = [*SUBCOMMANDS, "--help", "--version"]
    close = difflib.get_close_matches(name, known, n=1)
    suggestion = f" Did you mean {close[0]}?" if close else ""
    return (
        f"There is no subcommand {name}.{suggestion} "
        f"There is: {', '.join(SUBCOMMANDS)}. See {program} --help."
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that the module is in
        return False


def _program() -> str:
    """What the user types to start this command."""
    if os.path.basename(sys.argv[0]) in ("__main__.py", "-m"):
        return "python -m heavytail_optax"
    return "heavytail"
