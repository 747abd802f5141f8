"""What is wrong with the HTML that was built: links and anchors that lead nowhere, and whatever a
page would fetch from another place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Page", "internal_links", "problems_of", "read_page"]

# attributes that make a browser fetch what they name; of <link> only with these relations
_FETCHING = {
    ("img", "src"),
    ("script", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("object", "data"),
}
_RELATIONS = {
    "stylesheet",
    "icon",
    "preload",
    "preconnect",
    "prefetch",
    "modulepreload",
    "manifest",
}
_CSS_ADDRESS = re.compile(r"(?:url\(|@import)\s*[\"']?(?P<address>(?:https?:)?//[^\"')\s]+)")


class Page(HTMLParser):
    """The anchors of a page, its links, and what a browser fetches to show it."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.styles: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and _RELATIONS & set(values.get("rel", "").split()):
            self.fetched.append(values.get("href", ""))
        self.fetched += [values[name] for of, name in _FETCHING if of == tag and values.get(name)]
        self.styles.append(values.get("style", ""))
        self._in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.styles.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def problems_of(site: Path) -> list[str]:
    """One line for each thing that is wrong with the site in the folder `site`."""
    pages = {path: read_page(path) for path in sorted(site.rglob("*.html"))}
    problems = [] if pages else [f"{site}: holds no page"]
    for path, page in pages.items():
        name = path.relative_to(site)
        for link in page.links:
            reason = _wrong_link(site, path, link, pages)
            if reason:
                problems.append(f"{name}: {link}: {reason}")
        outside = [address for address in page.fetched if _is_outside(address)]
        outside += [
            match["address"] for text in page.styles for match in _CSS_ADDRESS.finditer(text)
        ]
        problems += [f"{name}: would fetch {address}" for address in outside]
        problems += [
            f"{name}: {address}: no such file"
            for address in page.fetched
            if not _is_outside(address) and not _target(site, path, address).is_file()
        ]
    for path in sorted(site.rglob("*.css")):
        text = path.read_text(encoding="utf-8")
        problems += [
            f"{path.relative_to(site)}: would fetch {match['address']}"
            for match in _CSS_ADDRESS.finditer(text)
        ]
    return problems


def internal_links(path: Path, page: Page) -> Iterator[Path]:
    """The files that a page's links lead to, in the same site."""
    for link in page.links:
        if not _is_outside(link) and urlsplit(link).path:
            yield (path.parent / unquote(urlsplit(link).path)).resolve()


def _is_outside(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or (bool(parts.scheme) and parts.scheme != "data")


def _target(site: Path, path: Path, address: str) -> Path:
    name = unquote(urlsplit(address).path)
    base = site if name.startswith("/") else path.parent
    target = (base / name.lstrip("/")).resolve() if name else path
    return target / "index.html" if target.is_dir() else target


def _wrong_link(site: Path, path: Path, link: str, pages: dict[Path, Page]) -> str:
    """Why a link leads nowhere; "" where it leads somewhere, or out of the site."""
    if _is_outside(link):
        return ""
    target = _target(site, path, link)
    if not target.is_file():
        return "no such page"
    anchor = unquote(urlsplit(link).fragment)
    page = pages.get(target) or pages.get(site / target.relative_to(site.resolve()))
    if anchor and page is not None and anchor not in page.anchors:
        return "no such anchor"
    return ""
