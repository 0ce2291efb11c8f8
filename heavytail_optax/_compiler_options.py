"""Which options of XLA's compiler this version of it takes."""

from collections.abc import Mapping

import jax


def are_known(options: Mapping[str, bool | int]) -> bool:
    """Whether XLA compiles a program with these options; a program is compiled to see."""
    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except (TypeError, ValueError, RuntimeError):
        return False
    return True
