"""The extensions of Sphinx that build the pages."""

import contextlib
import functools
import http.server
import importlib
import pathlib
import threading
from xml.etree import ElementTree

import pytest

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")

MathError = importlib.import_module("docutils.utils.math").MathError
formulas = importlib.import_module("formulas")
inventories = importlib.import_module("inventories")
reference_pages = importlib.import_module("reference_pages")


def parsed(tex, is_block=False):
    text = formulas.mathml(tex, is_block=is_block)
    text = text.replace("&ApplyFunction;", "\u2061")
    text = text.replace('xmlns="http://www.w3.org/1998/Math/MathML"', "")
    return ElementTree.fromstring(text)


@pytest.mark.parametrize(
    ("tex", "parts"),
    [
        (r"\tfrac12 (a)", [["1"], ["2"]]),
        (r"\frac1n \sum", [["1"], ["n"]]),
        (r"\tfrac{12}{34}", [["12"], ["34"]]),
        (r"\frac{2\Sigma}{n}", [["2", "\u03a3"], ["n"]]),
        (r"\frac x y", [["x"], ["y"]]),
    ],
)
def test_fractions(tex, parts):
    """As TeX reads them: an argument without braces is one character."""
    (fraction,) = parsed(tex).iter("mfrac")
    assert ["".join(part.itertext()).split() for part in fraction] == parts


@pytest.mark.parametrize("bar", [r"\lvert Z \rvert", r"|Z|", r"\lVert Z \rVert"])
def test_bars_stand_at_what_they_enclose(bar):
    bars = list(parsed(f"P({bar} > x)").iter("mo"))[1:3]
    assert [(b.get("lspace"), b.get("rspace")) for b in bars] == [("0", "0")] * 2


@pytest.mark.parametrize(
    ("tex", "can_grow"),
    [
        (r"1\{|W| > w\}", False),
        (r"x = \lceil r \rceil", False),
        (r"y \left\{x\right\} z", True),
        (r"y \left|x\right| z", True),
        (r"y \bigl\{x\bigr\} z", True),
    ],
)
def test_brackets_grow_only_where_tex_lets_them(tex, can_grow):
    fences = [o for o in parsed(tex).iter("mo") if o.text in "{}|\u2308\u2309"]
    assert len(fences) >= 2
    assert {fence.get("stretchy") != "false" for fence in fences} == {can_grow}


def test_spaces_after_names():
    """tr A, but P(A)."""
    assert len(list(parsed(r"\operatorname{tr} A").iter("mspace"))) == 1
    assert len(list(parsed(r"\operatorname{P}(A)").iter("mspace"))) == 0


def test_a_block_is_displayed_and_dots_are_known():
    assert parsed(r"s_0 < \dots < s_K", is_block=True).get("display") == "block"
    assert "\u2026" in "".join(parsed(r"s_0 < \dots < s_K").itertext())


def test_an_unknown_command_is_an_error():
    with pytest.raises(MathError, match="nonsense"):
        formulas.mathml(r"\nonsense{x}", is_block=False)


@pytest.fixture
def server(tmp_path):
    """An address of this machine with a good inventory, a page, and a slow one."""

    is_over = threading.Event()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/slow"):
                is_over.wait()
            with contextlib.suppress(OSError):  # who asked may have left
                super().do_GET()

        def log_message(self, format, *args):
            pass

    for folder in ("good", "proxy", "slow"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "objects.inv").write_bytes(
            b"<html>" if folder == "proxy" else b"# Sphinx inventory version 2\n"
        )
    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        is_over.set()
        found.shutdown()
        thread.join()


def test_only_inventories_that_come_are_used(server, tmp_path, monkeypatch):
    monkeypatch.setattr(inventories, "SECONDS", 3.0)
    sites = {name: f"{server}/{name}/" for name in ("good", "proxy", "slow", "none")}
    sites |= {"closed": "http://127.0.0.1:1/", "no_name": "http://nowhere.invalid/"}
    # The slow server never answers: this would not end without the limit.
    paths = inventories.fetched(sites, tmp_path / "inventories")
    assert paths == {"good": tmp_path / "inventories" / "good.inv"}
    assert paths["good"].read_bytes().startswith(b"# Sphinx inventory")


def test_who_makes_the_results():
    """Each class without an example has a function with one that makes it."""
    objects = dict(reference_pages.public_objects())
    without = [
        name
        for name, value in objects.items()
        if isinstance(value, type) and ">>>" not in (value.__doc__ or "")
    ]
    assert without
    for name in without:
        assert any(
            ">>>" in objects[path].__doc__ for path in reference_pages.makers(name)
        )
    package = "heavytail_optax"
    assert reference_pages.makers(f"{package}.tail_index.ChosenK") == [
        f"{package}.tail_index.choose_k_by_bootstrap",
        f"{package}.tail_index.choose_k_by_distance",
    ]
    # In the result of a function.
    assert reference_pages.makers(f"{package}.flatness.MaximalSettings") == [
        f"{package}.flatness.maximal_sharpness"
    ]
    # By its docstring: a state is in what `init` returns.
    assert reference_pages.makers(f"{package}.TruncateUpdateNormState") == [
        f"{package}.truncate_update_norm"
    ]


def test_pages_of_names_that_are_gone_are_removed(tmp_path):
    folder = tmp_path / "api" / "generated"
    folder.mkdir(parents=True)
    for name in ("heavytail_optax.gone", "heavytail_optax.tails.pareto"):
        (folder / f"{name}.rst").write_text(name)

    class App:
        srcdir = pathlib.Path(tmp_path)

    reference_pages.remove_stale(App())
    assert [path.stem for path in folder.iterdir()] == ["heavytail_optax.tails.pareto"]
