"""Checks the built pages: links, alt texts, and how they look in a real browser.

    sphinx-build -W -b html docs docs/_build/html
    pip install playwright
    npm install --prefix docs/_build/npm mathjax@4
    python docs/check_site.py docs/_build/html --browser /usr/bin/chromium \
        --packages docs/_build/npm/node_modules --screenshots docs/_build/screenshots

Without `--browser` only the HTML is checked, as in the README's command for the tests. With `--browser` each
page is opened in headless Chromium, on a phone 360 pixels wide and on a desktop (the
first page in the dark theme too). The console must show no error, and no page may be wider
than the screen. Nothing is fetched from the network: the npm packages, which the pages
load from a server, come from `--packages`. Without it formulas are not typeset.
"""

import argparse
import mimetypes
import pathlib
import sys
import urllib.parse
from html.parser import HTMLParser
from typing import Any, NamedTuple

ORIGIN = "http://site.test/"
NPM_SERVER = "https://cdn.jsdelivr.net/npm/"
SCREENS = {"phone": (360, 740), "desktop": (1280, 900)}


class Page(NamedTuple):
    """The links, anchors and images without alternative text of a page."""

    links: list[str]
    anchors: set[str]
    without_alt: list[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page([], set(), [])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        links, anchors, without_alt = self.page
        anchors.update(v for k in ("id", "name") if (v := values.get(k)))
        links.extend(v for k in ("href", "src") if (v := values.get(k)))
        if tag == "img" and not (values.get("alt") or "").strip():
            without_alt.append(values.get("src") or "an image without a source")


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
    """Links within the site that lead nowhere, and images without alternative text."""
    pages = read_pages(folder)
    problems = []
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        problems += [f"{name}: no alt text: {src}" for src in page.without_alt]
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
    return problems


def _answer(folder: pathlib.Path, packages: pathlib.Path | None, route: Any) -> None:
    """Answers a request of the browser from files, or not at all."""
    url = urllib.parse.unquote(route.request.url.split("?")[0].split("#")[0])
    path = None
    if url.startswith(ORIGIN):
        path = folder / url.removeprefix(ORIGIN)
    elif url.startswith(NPM_SERVER) and packages is not None:
        # mathjax@4/tex.js is mathjax/tex.js, @mathjax/font@4/x.js is @mathjax/font/x.js.
        parts = url.removeprefix(NPM_SERVER).split("/")
        path = packages.joinpath(*(part[:1] + part[1:].split("@")[0] for part in parts))
    if path is None or not path.is_file():
        route.abort()
        return
    route.fulfill(
        body=path.read_bytes(),
        content_type=mimetypes.guess_type(path)[0] or "application/octet-stream",
        headers={"Access-Control-Allow-Origin": "*"},
    )


def problems_in_browser(
    folder: pathlib.Path,
    browser_path: str,
    packages: pathlib.Path | None,
    screenshots: pathlib.Path | None,
) -> list[str]:
    """Errors in the console, and pages wider than the screen."""
    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    pages = read_pages(folder)
    current = ""

    def note(text: str, url: str) -> None:
        # A file that the network would have provided is not a fault of the page.
        if url.startswith(ORIGIN) or packages and url.startswith(NPM_SERVER):
            problems.append(f"{current}: {text} ({url})")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox"]
        )
        for screen, (width, height) in SCREENS.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme
                )
                context.route("**/*", lambda r: _answer(folder, packages, r))
                tab = context.new_page()
                tab.on(
                    "console",
                    lambda m: m.type == "error" and note(m.text, m.location["url"]),
                )
                tab.on("pageerror", lambda error: note(str(error), ORIGIN))
                for path in pages:
                    name = path.relative_to(folder.resolve()).as_posix()
                    if scheme == "dark" and name != "index.html":
                        continue  # the theme is the same on all pages
                    current = f"{name}, {screen}, {scheme}"
                    tab.goto(ORIGIN + name, wait_until="load")
                    if packages is not None:
                        tab.evaluate("() => window.MathJax?.startup?.promise")
                    wide = tab.evaluate("document.documentElement.scrollWidth")
                    if wide > width:
                        problems.append(f"{current}: {wide} pixels wide")
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
    parser.add_argument("--packages", type=pathlib.Path, help="a node_modules folder")
    parser.add_argument("--screenshots", type=pathlib.Path, help="of the first page")
    options = parser.parse_args()
    problems = problems_in_html(options.folder)
    if options.browser:
        problems += problems_in_browser(
            options.folder, options.browser, options.packages, options.screenshots
        )
    print(*problems, sep="\n")
    print(f"{len(read_pages(options.folder))} pages, {len(problems)} problems")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
