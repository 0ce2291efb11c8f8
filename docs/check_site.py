"""Checks the built pages: links, formulas, the reference, and how they look.

    sphinx-build -W -b html docs docs/_build/html
    python docs/check_site.py docs/_build/html
    pip install playwright
    python docs/check_site.py docs/_build/html --browser /usr/bin/chromium \
        --screenshots docs/_build/screenshots

Without `--browser` only the HTML is checked, as in the README's command for the tests.
With `--browser` each page is opened in headless Chromium, on a phone 360 pixels wide and
on a desktop (the first page in the dark theme too). The console must show no error, and
nothing may be asked of another server. No page may be wider than the screen, and code of
88 columns must fit on the desktop. What a copy button copies must have no prompts.
"""

import argparse
import mimetypes
import pathlib
import re
import sys
import urllib.parse
from html.parser import HTMLParser
from typing import Any, NamedTuple

from _extensions.public_objects import PACKAGE, public_objects

ORIGIN = "http://site.test/"
COLUMNS = 88
SCREENS = {"phone": (360, 740), "desktop": (1280, 900)}

# What a browser loads by itself: an attribute of these elements. `<a href>` is followed
# by a reader only.
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src"}
RELATIONS = {"stylesheet", "preload", "icon", "shortcut icon", "modulepreload"}


class Page(NamedTuple):
    """What is checked of a page."""

    links: list[str]
    anchors: set[str]
    names: set[str]  # what the reference describes here
    loaded: list[str]
    without_alt: list[str]
    unreadable: list[
        str
    ]  # formulas left as TeX, what was taken for a list, empty lines


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page([], set(), set(), [], [], [])
        self.code: list[str] = []  # the open <pre>, <code>, <script> and <style>
        self.block = ""
        self.math = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        page = self.page
        page.anchors.update(v for k in ("id", "name") if (v := values.get(k)))
        page.links.extend(v for k in ("href", "src") if (v := values.get(k)))
        if tag == "img" and not (values.get("alt") or "").strip():
            page.without_alt.append(values.get("src") or "an image without a source")
        if tag == "link" and values.get("rel") in RELATIONS:
            page.loaded.append(values.get("href") or "")
        elif tag in LOADED and (source := values.get(LOADED[tag])):
            page.loaded.append(source)
        if tag == "dt" and (name := values.get("id") or "").startswith(f"{PACKAGE}."):
            page.names.add(name)
        if tag == "math":
            self.math += 1
        if tag == "ol" and re.search("alpha|roman", values.get("class") or ""):
            page.unreadable.append("text such as 'b.' that was taken for a list")
        if tag in ("pre", "code", "script", "style"):
            self.code.append(tag)
            if tag == "pre":
                self.block = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "math":
            self.math -= 1
        if self.code and tag == self.code[-1]:
            self.code.pop()
            if tag == "pre" and self.block.endswith("\n\n"):
                self.page.unreadable.append("a block that ends in an empty line")

    def handle_data(self, data: str) -> None:
        if "pre" in self.code:
            self.block += data
        elif not self.code and re.search(r"\\[(\[]|\\[a-z]{2,}|\$\S", data):
            self.page.unreadable.append(f"a formula as TeX: {data.strip()[:60]}")
        elif self.math and "\\" in data:
            self.page.unreadable.append(f"TeX in a formula: {data.strip()[:60]}")


def read_pages(folder: pathlib.Path) -> dict[pathlib.Path, Page]:
    """All pages of a built site, by path."""
    pages = {}
    for path in sorted(folder.resolve().rglob("*.html")):
        if "_static" not in path.parts:
            reader = _Reader()
            reader.feed(path.read_text("utf-8"))
            pages[path] = reader.page
    return pages


def problems_in_html(folder: pathlib.Path) -> list[str]:
    """Dead links, images without a text, formulas left as TeX, and other servers."""
    pages = read_pages(folder)
    problems = []
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        problems += [f"{name}: no alt text: {src}" for src in page.without_alt]
        if name.parts[0] != "_modules":  # source files end in a line of their own
            problems += [f"{name}: {fault}" for fault in page.unreadable]
        problems += [
            f"{name}: needs another server: {source}"
            for source in page.loaded
            if urllib.parse.urlsplit(source).netloc
        ]
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (path.parent / urllib.parse.unquote(parts.path)).resolve()
            anchor = urllib.parse.unquote(parts.fragment)
            if not target.is_file():
                problems.append(f"{name}: no such file: {link}")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                problems.append(f"{name}: no such place: {link}")
    for path in sorted(folder.rglob("*.css")):
        for url in re.findall(
            r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)",
            path.read_text("utf-8"),
        ):
            problems.append(f"{path.relative_to(folder)}: needs another server: {url}")
    return problems


def problems_in_reference(folder: pathlib.Path) -> list[str]:
    """Public names without a page of their own, its example or its source."""
    pages = read_pages(folder)
    problems = []
    for name, _ in public_objects():
        homes = [path for path, page in pages.items() if name in page.names]
        if [path.stem for path in homes] != [name]:
            found = ", ".join(path.name for path in homes) or "none"
            problems.append(f"{name}: pages with it: {found}")
            continue
        text = homes[0].read_text("utf-8")
        if "&gt;&gt;&gt;" not in text:
            problems.append(f"{name}: no example")
        if "_modules/" not in text:
            problems.append(f"{name}: no link to its source")
    return problems


def _answer(folder: pathlib.Path, route: Any) -> None:
    """Answers a request of the browser from files, or not at all."""
    url = urllib.parse.unquote(route.request.url.split("?")[0].split("#")[0])
    path = folder / url.removeprefix(ORIGIN)
    if not url.startswith(ORIGIN) or not path.is_file():
        route.abort()
        return
    route.fulfill(
        body=path.read_bytes(),
        content_type=mimetypes.guess_type(path)[0] or "application/octet-stream",
    )


# The longest line of each block whose end cannot be seen, and whether it scrolls.
CLIPPED = """() => [...document.querySelectorAll(".bd-article pre")]
    .filter(block => block.scrollWidth > block.clientWidth)
    .map(block => [
        Math.max(...block.innerText.split("\\n").map(line => line.length)),
        /auto|scroll/.test(getComputedStyle(block).overflowX),
    ])"""

# What the button of each block with prompts copies, from the field that it fills.
COPIED = """() => {
    let copied = "";
    document.execCommand = () => {
        copied = [...document.querySelectorAll("textarea")].at(-1).value;
        return true;
    };
    return [...document.querySelectorAll("div.highlight")]
        .filter(block => block.querySelector(".gp"))
        .map(block => {
            copied = "";
            block.querySelector("button.copybtn").click();
            return copied;
        });
}"""


def problems_in_browser(
    folder: pathlib.Path, browser_path: str, screenshots: pathlib.Path | None
) -> list[str]:
    """Errors in the console, other servers, what is too wide, and what is copied."""
    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    # One page of a source file stands for all.
    pages = read_pages(folder)
    sources = [path for path in pages if "_modules" in path.parts]
    names = [
        path.relative_to(folder.resolve()).as_posix()
        for path in pages
        if path not in sources[1:]
    ]
    current = ""

    def note(text: str) -> None:
        problems.append(f"{current}: {text}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox"]
        )
        for screen, (width, height) in SCREENS.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme
                )
                context.route("**/*", lambda route: _answer(folder, route))
                tab = context.new_page()
                tab.on("console", lambda m: m.type == "error" and note(m.text))
                tab.on("pageerror", lambda error: note(str(error)))
                tab.on("requestfailed", lambda request: note(f"no {request.url}"))
                for name in names:
                    if scheme == "dark" and name != "index.html":
                        continue  # the theme is the same on all pages
                    current = f"{name}, {screen}, {scheme}"
                    tab.goto(ORIGIN + name, wait_until="load")
                    wide = tab.evaluate("document.documentElement.scrollWidth")
                    if wide > width:
                        note(f"{wide} pixels wide")
                    is_source = name.startswith("_modules/")
                    for columns, scrolls in tab.evaluate(CLIPPED):
                        if not scrolls:
                            note(f"a block with {columns} columns is cut off")
                        elif screen == "desktop" and columns <= COLUMNS:
                            note(f"a block with {columns} columns does not fit")
                    if screen == "desktop" and not is_source:
                        for copied in tab.evaluate(COPIED):
                            if not copied or re.search(
                                r"^(>>>|\.\.\.)( |$)", copied, re.MULTILINE
                            ):
                                note(f"copies {copied[:40]!r}")
                    if screenshots is not None and name == "index.html":
                        shot = screenshots / f"index_{screen}_{scheme}.png"
                        tab.screenshot(path=shot, full_page=screen == "phone")
                context.close()
        browser.close()
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path, help="the built site")
    parser.add_argument("--browser", help="path of Chromium")
    parser.add_argument("--screenshots", type=pathlib.Path, help="of the first page")
    options = parser.parse_args()
    problems = problems_in_html(options.folder)
    problems += problems_in_reference(options.folder)
    if options.browser:
        problems += problems_in_browser(
            options.folder, options.browser, options.screenshots
        )
    print(*problems, sep="\n")
    print(f"{len(read_pages(options.folder))} pages, {len(problems)} problems")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
