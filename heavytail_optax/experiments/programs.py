"""Compiled programs: for the widest vectors, and kept from one command to the next.

JAX reads and writes the commands' cache, under a lock, and drops what was not used for
longest. A cache that the user has given to JAX comes first.
"""

import contextlib
import pathlib
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import filelock
import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from heavytail_optax._wide_vectors import WIDEST, vector_options

from .files import user_cache

_LARGEST = 256 * 2**20  # bytes; the default of `heavytail reproduce` takes 3 MiB
_LOCK = ".lockfile"  # JAX's own
_PROBLEM = "Error (?:reading|writing) persistent compilation cache entry"


def compiled(function: Callable, **options: Any) -> jax.stages.Wrapped:
    """`jax.jit` for a program that no other one calls."""
    return jax.jit(function, compiler_options=vector_options(), **options)


def device_name() -> str:
    """The device, as far as the last digits of a run depend on it."""
    kind = jax.devices()[0].device_kind
    return f"{kind}, {WIDEST}-bit vectors" if vector_options() else kind


@contextlib.contextmanager
def program_cache(is_wanted: bool) -> Iterator[None]:
    """Keeps compiled programs while a command runs; what fails is said in one line."""
    directory = user_cache("programs")
    has_other = jax.config.jax_compilation_cache_dir is not None
    if not is_wanted or has_other or directory is None:
        yield
        return
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _drop_unfinished(directory)
    except (OSError, filelock.Timeout) as error:
        _say(directory, getattr(error, "strerror", None) or error)
        yield
        return
    settings = {
        "jax_compilation_cache_dir": str(directory),
        "jax_compilation_cache_max_size": _LARGEST,
        # Below this, a program is compiled as quickly as it is read.
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    with _configured(settings), _one_line_for_problems(directory):
        yield


def _drop_unfinished(directory: pathlib.Path) -> None:
    """Removes what a process was writing when it was killed, which JAX does not do."""
    with filelock.FileLock(directory / _LOCK, timeout=10):
        for entry in directory.glob("*-cache"):
            # JAX writes when it was used after the program itself.
            if not entry.with_name(
                f"{entry.name.removesuffix('-cache')}-atime"
            ).exists():
                entry.unlink()
    with tempfile.TemporaryFile(dir=directory):
        pass


@contextlib.contextmanager
def _configured(values: Mapping[str, Any]) -> Iterator[None]:
    before = {name: getattr(jax.config, name) for name in values}
    for name, value in values.items():
        jax.config.update(name, value)
    # Whether there is a cache is decided once, at the first program.
    reset_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        reset_cache()


@contextlib.contextmanager
def _one_line_for_problems(directory: pathlib.Path) -> Iterator[None]:
    """JAX goes on without the cache, but warns at each program."""
    is_told = False
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=_PROBLEM)
        show = warnings.showwarning

        def once(message: Warning | str, *others: Any, **more: Any) -> None:
            nonlocal is_told
            found = re.match(f"{_PROBLEM} for '.*?': (.*)", str(message), re.DOTALL)
            if found is None:
                show(message, *others, **more)
            elif not is_told:
                is_told = True
                _say(directory, found[1])

        warnings.showwarning = once
        yield


def _say(directory: pathlib.Path, problem: object) -> None:
    print(
        f"Compiled programs are not kept in {directory}: {str(problem).strip('.')}.",
        file=sys.stderr,
    )
