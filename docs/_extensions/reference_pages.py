"""Pages of the reference: one a public name, made by autosummary in `api/generated`."""

import inspect
import pathlib
import re

from docutils import nodes
from public_objects import public_objects
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def remove_stale(app: Sphinx) -> None:
    """Removes pages of names that are gone, which would be built again."""
    names = {name for name, _ in public_objects()}
    for path in pathlib.Path(app.srcdir, "api", "generated").glob("*.rst"):
        if path.stem not in names:
            path.unlink()


def _example_lines(value: object) -> list[str]:
    """The lines of the section "Example:" of a docstring, without its indentation."""
    lines = inspect.cleandoc(value.__doc__ or "").splitlines()
    starts = [i for i, line in enumerate(lines) if line in ("Example:", "Examples:")]
    if not starts:
        return []
    found = []
    for line in lines[starts[0] + 1 :]:
        if line and not line.startswith(" "):
            break
        found.append(line)
    return inspect.cleandoc("\n".join(found)).splitlines()


def makers(name: str) -> list[str]:
    """The public functions that return, or make, an object of this class.

    They are those that say so in their signature, or that the docstring of the class
    names; for a class within a result, those that make the result.
    """
    objects = dict(public_objects())
    namespace, _, short = name.rpartition(".")
    within = {
        path: value for path, value in objects.items() if path.startswith(namespace)
    }
    functions = {path: f for path, f in within.items() if inspect.isfunction(f)}
    returning = [
        path
        for path, function in functions.items()
        if re.search(rf"\b{short}\b", str(function.__annotations__.get("return", "")))
    ]
    if returning:
        return returning
    mentioned = re.findall(r"`(\w+)`", inspect.getdoc(objects[name]) or "")
    named = [f"{namespace}.{word}" for word in mentioned]
    named = [path for path in dict.fromkeys(named) if path in functions]
    if named:
        return named
    for path, value in within.items():
        if path != name and inspect.isclass(value):
            fields = getattr(value, "__annotations__", {}).values()
            if any(re.search(rf"\b{short}\b", str(field)) for field in fields):
                return makers(path)
    return []


def _add_example(
    app: Sphinx,
    what: str,
    name: str,
    value: object,
    options: object,
    lines: list[str],
) -> None:
    """A class that functions return shows the example of the first of them."""
    objects = dict(public_objects())
    if what != "class" or name not in objects or any(">>>" in line for line in lines):
        return
    paths = makers(name)
    if not paths:
        return
    links = ", ".join(f":py:obj:`{path.rpartition('.')[2]} <{path}>`" for path in paths)
    lines += ["", ".. rubric:: Made by", "", links]
    for path in paths:
        if example := _example_lines(objects[path]):
            lines += ["", ".. rubric:: Example", "", *example]
            break


def _skip_fields(
    app: Sphinx, what: str, name: str, value: object, skip: bool, options: object
) -> bool | None:
    """Leaves out the fields of a NamedTuple: "Attributes" has them, with their shapes."""
    return True if type(value).__name__ == "_tuplegetter" else None


def _link(
    app: Sphinx,
    environment: BuildEnvironment,
    node: addnodes.pending_xref,
    content: nodes.TextElement,
) -> nodes.reference | None:
    """A link from `pareto` or `hto.tails.pareto`, wherever it is written."""
    target = node.get("reftarget", "").removeprefix("hto.")
    found = [name for name, _ in public_objects() if name.endswith(f".{target}")]
    if node.get("reftype") != "obj" or len(found) != 1:
        return None
    return environment.domains.python_domain.resolve_xref(
        environment, node["refdoc"], app.builder, "obj", found[0], node, content
    )


def _trim_blocks(app: Sphinx, document: nodes.document) -> None:
    """Takes away the empty lines at the end of blocks, which doctest needs in a page."""
    for block in document.findall(nodes.literal_block):
        if block.rawsource == block.astext():  # else it has markup of its own
            block.rawsource = block.rawsource.rstrip("\n")
            block.children = [nodes.Text(block.rawsource)]
            block.children[0].parent = block


def _spell_out(app: Sphinx, document: nodes.document, docname: str) -> None:
    """Lets the star of a signature be text in Markdown, where it would be left out."""
    if app.tags.has("sphinx_llm_markdown"):
        for star in list(document.findall(nodes.abbreviation)):
            star.replace_self(nodes.Text(star.astext()))


def setup(app: Sphinx) -> dict[str, bool]:
    # Before autosummary writes the pages.
    app.connect("builder-inited", remove_stale, priority=100)
    app.connect("autodoc-process-docstring", _add_example, priority=100)
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("missing-reference", _link)
    app.connect("doctree-read", _trim_blocks)
    app.connect("doctree-resolved", _spell_out)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
