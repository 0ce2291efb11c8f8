"""Formulas as MathML, made while the pages are built: no script, no font, no server.

All current browsers show MathML. Docutils translates it from TeX.
"""

import html
import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_LOGGER = logging.getLogger(__name__)

_APPLIED = "<mo>&ApplyFunction;</mo>"
_THIN_SPACE = '<mspace width="0.17em"></mspace>'


def _fence(match: re.Match[str]) -> str:
    """A bar or bracket: as high as a letter, unless TeX asks for more."""
    attributes, fence = match.groups()
    # Docutils puts `\left( x \right)` in a row of its own.
    is_left = match.string[: match.start()].rstrip().endswith("<mrow>")
    is_right = match.string[match.end() :].lstrip().startswith("</mrow>")
    if not (is_left or is_right or re.search("minsize|stretchy", attributes)):
        attributes += ' stretchy="false"'
    if fence in "|\u2016":
        attributes += ' lspace="0" rspace="0"'
    return f"<mo{attributes}>{fence}</mo>"


def mathml(tex: str, *, is_block: bool) -> str:
    r"""A formula as MathML.

    Docutils takes `\frac12` for a fraction of 12, does not know `\dots`, leaves wide gaps
    around `\lvert`, draws `\{` too high and has no gap in `\operatorname{tr} A`. These are
    mended here.

    Raises:
      MathError: if Docutils does not know a command.
    """
    tex = re.sub(r"(\\[dt]?frac)\s*(\d)(?=\s*[\w\\{])", r"\1{\2}", tex)
    tex = re.sub(r"(\\[dt]?frac\{\d\})\s*(\w)", r"\1{\2}", tex)
    tex = re.sub(r"\\dots\b", r"\\ldots", tex)
    found = str(tex2mathml(tex, as_block=is_block))
    found = re.sub(
        r"<mo([^>]*)>([{}|\u2016\u2308-\u230b\u27e8\u27e9])</mo>", _fence, found
    )
    # A name and its argument: P(x), but tr A.
    return re.sub(
        rf"{_APPLIED}(?=\s*<(?:mi|mn|msub|msup|msubsup|mfrac)\b)",
        _APPLIED + _THIN_SPACE,
        found,
    )


def _translated(node: nodes.Element, *, is_block: bool) -> str:
    tex = node.astext()
    try:
        return mathml(tex, is_block=is_block)
    except MathError as error:
        _LOGGER.warning("%s in the formula %s", error, tex, location=node)
        return f"<code>{html.escape(tex)}</code>"


def _inline(translator: HTML5Translator, node: nodes.Element) -> None:
    found = _translated(node, is_block=False)
    translator.body.append(translator.starttag(node, "span", "", CLASS="math"))
    translator.body.append(f"{found}</span>")
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.Element) -> None:
    found = _translated(node, is_block=True)
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(f"{found}</div>\n")
    raise nodes.SkipNode


def _keep_punctuation(app: Sphinx, document: nodes.document, docname: str) -> None:
    """Keeps a formula and the punctuation after it on one line; browsers do not."""
    if app.builder.format != "html":
        return
    for formula in list(document.findall(nodes.math)):
        siblings = formula.parent
        place = siblings.index(formula)
        after = siblings[place + 1] if place + 1 < len(siblings) else None
        found = (
            re.match(r"[^\w\s(\[\u2013\u2014]+", after)
            if isinstance(after, nodes.Text)
            else None
        )
        if after is not None and found is not None:
            siblings[place + 1] = nodes.Text(after[found.end() :])
            unbroken = nodes.inline("", "", classes=["unbroken"])
            siblings[place] = unbroken
            unbroken += [formula, nodes.Text(found[0])]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("doctree-resolved", _keep_punctuation)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
