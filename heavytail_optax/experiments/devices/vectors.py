"""Programs of ours, compiled for the widest vectors that the processor has."""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax

_OPTION = "xla_cpu_prefer_vector_width"
_WIDEST = 512


@functools.cache
def vector_options() -> dict[str, Any]:
    """Options of `jax.jit` for vectors of 512 bits; none where they would be refused."""
    # What the user says of XLA holds for the whole process.
    is_said = _OPTION in os.environ.get("XLA_FLAGS", "")
    if is_said or jax.default_backend() != "cpu" or not _has_avx512():
        return {}
    options = {_OPTION: _WIDEST}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except (TypeError, ValueError, RuntimeError):  # an option that XLA does not know
        return {}
    return options


def compiled(function: Callable, **options: Any) -> jax.stages.Wrapped:
    """`jax.jit` for a program that no other one calls."""
    return jax.jit(function, compiler_options=vector_options(), **options)


def device_name() -> str:
    """The device, as far as the last digits of a run depend on it."""
    kind = jax.devices()[0].device_kind
    return f"{kind}, {_WIDEST}-bit vectors" if vector_options() else kind


def _has_avx512() -> bool:
    try:
        return " avx512f " in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
