"""Vectors of 512 bits for programs that only the host calls.

XLA's vectors on a CPU have 256 bits, unless the program says otherwise. JAX accepts
that only for a whole program. So what runs inside a user's `jax.jit` cannot ask for it.
"""

import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import jax

from heavytail_optax._compiler_options import are_known

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

OPTION = "xla_cpu_prefer_vector_width"
WIDEST = 512


@functools.cache
def vector_options() -> dict[str, bool | int]:
    """Options of `jax.jit` for vectors of 512 bits; none where they would be refused."""
    # What the user says of XLA holds for the whole process.
    is_said = OPTION in os.environ.get("XLA_FLAGS", "")
    if is_said or jax.default_backend() != "cpu" or not _has_avx512():
        return {}
    options: dict[str, bool | int] = {OPTION: WIDEST}
    return options if are_known(options) else {}


def program_of_the_host(
    function: Callable[_Arguments, _Result],
    *,
    static_argnames: str | Sequence[str],
    donate_argnames: str | Sequence[str] | None = None,
) -> Callable[_Arguments, _Result]:
    """`jax.jit` of a function that is never called inside another one.

    The processor is asked at the first call, because an import starts no backend.
    """

    @functools.cache
    def program() -> jax.stages.Wrapped:
        return jax.jit(
            function,
            static_argnames=static_argnames,
            donate_argnames=donate_argnames,
            compiler_options=vector_options(),
        )

    @functools.wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        return program()(*args, **kwargs)

    return call


def _has_avx512() -> bool:
    try:
        return " avx512f " in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
