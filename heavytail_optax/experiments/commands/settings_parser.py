"""What the commands with settings share: the preset, and the text of --help."""

import argparse
import difflib
import inspect
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

from heavytail_optax.experiments.measure_names import MEASURE_NAMES
from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.presets import PRESETS, PresetName

Command = TypeVar("Command")


def parse(
    command: type[Command],
    arguments: Sequence[str],
    program: str,
    description: str,
    default: Command | None = None,
    markers: Sequence[Any] = (),
) -> Command:
    """The command that the arguments ask for."""
    import tyro

    options = {} if default is None else {"default": default}
    try:
        return tyro.cli(
            command,
            prog=program,
            args=arguments,
            description=description,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone, *markers),
            **options,
        )
    except SystemExit as stop:
        if stop.code and (hints := suggestions(arguments)):
            print(*hints, sep="\n", file=sys.stderr)
        raise


def with_preset_option(arguments: Sequence[str]) -> list[str]:
    """The arguments with a first word that is no option taken for the preset.

    Example:
      >>> with_preset_option(["svhn", "--seeds", "3"])
      ['--preset', 'svhn', '--seeds', '3']
    """
    if arguments and not arguments[0].startswith("-"):
        return ["--preset", *arguments]
    return list(arguments)


def options_ahead(
    arguments: Sequence[str], names: Sequence[str]
) -> dict[str, str | None]:
    """Values of the options that decide on the defaults of all others."""
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False
    )
    for name in names:
        parser.add_argument(f"--{name}")
    try:
        known, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:  # tyro says what is wrong
        return dict.fromkeys(names)
    return vars(known)


def preset_of(arguments: Sequence[str], default: PresetName) -> PresetName:
    """The preset asked for; the default for an unknown one, which tyro then refuses."""
    name = options_ahead(arguments, ["preset"])["preset"]
    return next((known for known in PRESETS if known == name), default)


def suggestions(arguments: Sequence[str]) -> list[str]:
    """One line for each misspelt preset, method or measure that is like one there is.

    Example:
      >>> suggestions(["--methods", "sgd", "balancd", "--seeds", "balancd"])
      ["'balancd': did you mean 'balanced'?"]
    """
    known = {
        "--preset": list(PRESETS),
        "--methods": list(METHODS),
        "--measures": list(MEASURE_NAMES),
    }
    found, option = [], ""
    for word in arguments:
        if word.startswith("--"):
            option, _, word = word.partition("=")
        names = known.get(option, [])
        if word and names and word not in names:
            close = difflib.get_close_matches(word, names, n=1)
            found += [f"{word!r}: did you mean {name!r}?" for name in close]
    return found


def description(command: type, unit: str, exit_status: str) -> str:
    """The docstring, presets, methods with the paper's names, and the exit status."""
    about = inspect.getdoc(command) or ""
    start = about.partition("Attributes:")[0].rstrip()
    width = max(len(name) for name in PRESETS)
    presets = [f"  {p.name:<{width}}  {p.summary}" for p in PRESETS.values()]
    width = max(len(method.label) for method in METHODS.values())
    methods = [f"  {m.label:<{width}}  {m.summary}" for m in METHODS.values()]
    ending = (
        f"A {unit} whose loss is no longer finite has diverged: it is stopped, and the "
        "others have their turn. Without truncation a jump may also leave all ReLUs "
        "off: the loss stays finite, the accuracy that of chance.\n\n"
        f"Exit status: {exit_status}, 130 after Ctrl-C."
    )
    return "\n".join(
        [
            start,
            "",
            "Presets:",
            *presets,
            "",
            "Methods, with their names in the paper's tables:",
            *methods,
            "",
            ending,
        ]
    )
