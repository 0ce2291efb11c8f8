"""The modules of the package import each other without a circle."""

import ast
import graphlib
import pathlib

import pytest

import heavytail_optax as hto

ROOT = pathlib.Path(hto.__file__).parent


def name_of(path, root):
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree, parents):
    """The dotted names that a module imports anywhere, functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # One dot is the module's own package, each further one the package above.
            start = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            # A name may be a module, too: then the package before it is not meant.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def graph_of(root):
    """For each module the modules of the same package that it imports."""
    paths = {name_of(path, root): path for path in root.rglob("*.py")}
    graph = {}
    for name, path in paths.items():
        graph[name] = set()
        parents = path.relative_to(root.parent).parent.parts
        for target in imported(ast.parse(path.read_text()), parents):
            for candidate in (target, target.rpartition(".")[0]):
                if candidate in paths:
                    graph[name].add(candidate)
                    break
    return graph


def test_no_module_imports_itself_in_a_circle():
    graph = graph_of(ROOT)
    assert "heavytail_optax._norm" in graph["heavytail_optax._truncation"]
    runs = "heavytail_optax.experiments.runs"
    assert f"{runs}.grid" in graph[f"{runs}.worker"]
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_a_circle_is_found(tmp_path):
    """Negative control: one of the two imports is relative, and inside a function."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from package.two import f")
    (package / "two.py").write_text("def f():\n    from . import one")
    with pytest.raises(graphlib.CycleError):
        tuple(graphlib.TopologicalSorter(graph_of(package)).static_order())
