"""The public names of the package, for the reference and for its check."""

import importlib
import inspect
from collections.abc import Iterator

PACKAGE = "heavytail_optax"


def public_objects(namespace: str = PACKAGE) -> Iterator[tuple[str, object]]:
    """Every public object and its full name: what `__all__` lists, here and below."""
    module = importlib.import_module(namespace)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            yield from public_objects(f"{namespace}.{name}")
        else:
            yield f"{namespace}.{name}", value
