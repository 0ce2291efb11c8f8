"""The frame of the laboratory's commands: parsing, errors and exit status."""

import importlib
import inspect
import pathlib
import sys
import tempfile
from collections.abc import Sequence

from heavytail_optax.experiments.commands.parsing import as_typed, filled, parse
from heavytail_optax.experiments.errors import IS_NO_DIRECTORY, USAGE
from heavytail_optax.experiments.programs import program_cache
from heavytail_optax.laboratory import options

_OPTIONS = {
    "simulate": options.SimulateOptions,
    "exit-times": options.ExitTimesOptions,
    "markov-chain": options.MarkovChainOptions,
}


def run(name: str, arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of a command and does its work; the exit status."""
    kind = _OPTIONS[name]
    about = (inspect.getdoc(kind) or "").partition("Attributes:")[0]
    asked = parse(kind, f"{program} {name}", arguments, filled(about))
    try:
        _check_directory(asked.directory)
        # It loads SciPy and Matplotlib, which --help need not.
        module = f"{__package__}.{name.replace('-', '_')}_report"
        with program_cache(not asked.no_cache):
            importlib.import_module(module).work(asked)
    except BrokenPipeError:  # as of `| head`
        raise
    except ValueError as error:
        print(as_typed(str(error), kind), file=sys.stderr)
        return USAGE
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _check_directory(directory: pathlib.Path) -> None:
    """Makes the directory of the picture, before the work that the picture is of."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        kind = ValueError if isinstance(error, IS_NO_DIRECTORY) else OSError
        raise kind(
            f"No picture can be written to {directory}: {error.strerror}. "
            "Give another --directory."
        ) from None
