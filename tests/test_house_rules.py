"""The rules of `docs/contributing.md` that a machine can check."""

import collections
import importlib
import inspect
import json
import pathlib
import re
import subprocess
import sys
import warnings

import public_objects as site
import pytest
from check_site import problems_in_html, problems_in_reference

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "heavytail_optax"
API_PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
MAX_LINES = 400


def test_faults_of_the_pages_are_found(tmp_path):
    (tmp_path / "good.html").write_text(
        '<p id="there"><a href="#there">a</a><a href="https://else.where/">b</a>'
        '<img src="good.html" alt="A picture."></p><script src="good.html"></script>'
        "<pre>>>> 1 + 1\n</pre><p><code>$x$</code> costs 5 $ <math><mi>b</mi></math></p>"
    )
    (tmp_path / "good.css").write_text("p {background: url(good.html)}")
    assert problems_in_html(tmp_path) == []
    (tmp_path / "bad.html").write_text(
        '<a href="good.html#nowhere">a</a><a href="gone.html">b</a>'
        '<img src="good.html" alt=" "><img src="good.html">'
        '<link rel="stylesheet" href="//else.where/a.css"><p>is \\(b\\)</p>'
        '<script src="https://else.where/a.js"></script><pre>1\n\n</pre>'
        '<ol class="loweralpha simple"></ol>'
        "<math><mtext>\\eta</mtext></math><p>falls like $x^2$</p>"
    )
    (tmp_path / "bad.css").write_text("@import 'https://else.where/b.css';")
    assert problems_in_html(tmp_path) == [
        "bad.html: no alt text: good.html",
        "bad.html: no alt text: good.html",
        "bad.html: a formula as TeX: is \\(b\\)",
        "bad.html: a block that ends in an empty line",
        "bad.html: text such as 'b.' that was taken for a list",
        "bad.html: a formula as TeX: \\eta",
        "bad.html: a formula as TeX: falls like $x^2$",
        "bad.html: needs another server: //else.where/a.css",
        "bad.html: needs another server: https://else.where/a.js",
        "bad.html: no such place: good.html#nowhere",
        "bad.html: no such file: gone.html",
        "bad.css: needs another server: https://else.where/b.css",
    ]


def test_names_without_their_page_are_found(tmp_path):
    """A page for each public name: with an example, a source, and no other names."""

    def write(file, name, text='&gt;&gt;&gt; <a href="_modules/a.html">source</a>'):
        (tmp_path / f"{file}.html").write_text(f'<dt id="{name}">{text}</dt>')

    names = sorted(name for name, _ in site.public_objects())
    assert names == sorted(name for name in public_objects())
    assert len(problems_in_reference(tmp_path)) == len(names)
    for name in names:
        write(name, name)
    assert problems_in_reference(tmp_path) == []
    one, other, third = names[0], names[1], names[2]
    write("again", one)
    write(other, other, "&gt;&gt;&gt; ")
    write(third, third, "_modules/")
    assert sorted(problems_in_reference(tmp_path)) == sorted(
        [
            f"{one}: pages with it: again.html, {one}.html",
            f"{other}: no link to its source",
            f"{third}: no example",
        ]
    )


def loaded_by(statement):
    """The top-level modules that are loaded after a statement."""
    program = (
        f"{statement}; import json, sys; "
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    return set(json.loads(output)) - set(sys.stdlib_module_names)


def test_import_loads_jax_and_optax_only():
    allowed = loaded_by("import jax, optax")
    assert {"jax", "jaxlib", "optax"} <= allowed
    assert loaded_by("import heavytail_optax") - allowed == {"heavytail_optax"}
    # The check sees a package that is loaded beside them.
    assert "pytest" in loaded_by("import heavytail_optax, pytest") - allowed


@pytest.mark.parametrize("module", ["heavytail_optax.tails", "test_house_rules"])
def test_what_is_deprecated_is_an_error_in_our_code(module):
    where = {"filename": "any.py", "lineno": 1}
    with pytest.raises(DeprecationWarning):
        warnings.warn_explicit("old", DeprecationWarning, module=module, **where)
    # Not in somebody else's.
    with pytest.warns(DeprecationWarning):
        warnings.warn_explicit("old", DeprecationWarning, module="jax.numpy", **where)


def test_modules_are_short():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert lengths
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


def public_objects():
    """Every public object by its full name: what `__all__` lists, here and below."""
    objects = {}
    namespaces = ["heavytail_optax"]
    while namespaces:
        namespace = namespaces.pop()
        module = importlib.import_module(namespace)
        for name in module.__all__:
            full_name = f"{namespace}.{name}"
            value = getattr(module, name)
            if inspect.ismodule(value):
                assert value.__name__ == full_name
                namespaces.append(full_name)
            else:
                objects[full_name] = value
    return objects


def documented_names(page):
    """The full names that a page of the reference lists, repeats included."""
    namespace, is_list = "", False
    for line in page.read_text("utf-8").splitlines():
        match = re.match(r"\s*\.\. (\w+):: *([\w.]*)", line)
        if match is not None:
            directive, name = match.groups()
            is_list = directive == "autosummary"
            if directive in ("currentmodule", "module", "automodule"):
                namespace = name
        elif line.startswith("```"):
            is_list = False
        elif is_list and (match := re.fullmatch(r" +(\w+)", line)):
            yield f"{namespace}.{match[1]}"


def test_public_names_have_a_summary_line():
    without = []
    for name, value in public_objects().items():
        if isinstance(value, str):  # `__version__`
            continue
        # Not `inspect.getdoc`, which falls back on the docstring of a base class.
        lines = inspect.cleandoc(value.__doc__ or "").splitlines()
        is_summary = bool(lines) and lines[0].endswith(".") and not any(lines[1:2])
        if not is_summary or lines[0].startswith(f"{name.split('.')[-1]}("):
            without.append(name)
    assert without == []


def test_public_names_are_documented_once():
    counts = collections.Counter(
        name for page in API_PAGES for name in documented_names(page)
    )
    assert {name: n for name, n in counts.items() if n > 1} == {}
    public = {name for name in public_objects() if not name.endswith("__")}
    assert set(counts) == public


# Each folder of the experiments imports from those before it only.
ROOMS = (
    "errors",
    "files",
    "methods",
    "setting_rules",
    "settings",
    "flat_settings",
    "presets",
    "data",
    "models",
    "parallel",
    "programs",
    "training",
    "terminal",
    "storage",
    "measures",
    "runs",
    "report",
    "commands",
)


def test_dependencies_point_one_way():
    folder = PACKAGE / "experiments"
    found = {path.stem for path in folder.iterdir()} - {"__init__", "__pycache__"}
    assert found == set(ROOMS)
    upwards = []
    for path in folder.glob("*/**/*.py"):
        own, *deeper = path.relative_to(folder).parts[:-1]
        dots = "." * (2 + len(deeper))
        upwards += [
            f"{path.relative_to(folder)} imports from {room}"
            for room in re.findall(
                rf"^\s*from {re.escape(dots)}(\w+)", path.read_text(), re.MULTILINE
            )
            if ROOMS.index(room) > ROOMS.index(own)
        ]
        assert "from heavytail_optax.experiments" not in path.read_text()
    assert upwards == []
