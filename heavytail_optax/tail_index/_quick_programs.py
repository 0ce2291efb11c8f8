"""Programs that XLA compiles in a third of the time, for functions of few draws.

XLA has two ways to make CPU code of a fused loop. The newer one, its default, takes
three times as long, and so does one LLVM module for each loop instead of one for all.
Both pay off in a training step that runs a million times, not for an estimate. Of a
function that looks at few draws only some times, LLVM need not improve the code either.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

from heavytail_optax._compiler_options import are_known

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_LEVEL = "xla_backend_optimization_level"
_OPTIONS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
    _LEVEL: 0,
}
_FEW = 2**14


@functools.cache
def _known_options() -> dict[str, bool | int]:
    """Those of the options that this version of XLA has."""
    if are_known(_OPTIONS):
        return _OPTIONS
    return {name: value for name, value in _OPTIONS.items() if are_known({name: value})}


def quick_jit(
    function: Callable[_Arguments, _Result],
    static_argnames: tuple[str, ...] = (),
    *,
    has_loops: bool = False,
) -> Callable[_Arguments, _Result]:
    """`jax.jit` with a short compilation. Inside another program, it is a part of that.

    Args:
      function: an argument must be an array that was made at the call, as `as_traced`
        makes one: inside another program it is a tracer, even if the user's are
        constants.
      static_argnames: as for `jax.jit`.
      has_loops: whether it looks at the draws many times.
    """
    inside = jax.jit(function, static_argnames=static_argnames)

    @functools.cache
    def alone(is_improved: bool) -> Callable[_Arguments, _Result]:
        options = dict(_known_options())
        if _LEVEL in options:
            options[_LEVEL] = int(is_improved)
        return jax.jit(
            function, static_argnames=static_argnames, compiler_options=options
        )

    @functools.wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        leaves = jax.tree.leaves((args, kwargs))
        if any(isinstance(x, jax.core.Tracer) for x in leaves):
            return inside(*args, **kwargs)
        most = max((x.size for x in leaves if isinstance(x, jax.Array)), default=0)
        return alone(has_loops or most > _FEW)(*args, **kwargs)

    return call
