"""Documents of the repository as pages of the site, with their links turned to the site's pages.

A document is never copied by hand: the site shows ARCHITECTURE.md, CONTRIBUTING.md, CHANGELOG.md
and the reports beside the results as they are. A file that a document links to and that is no such
document becomes a page that shows it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from docs.generator.markdown import blocks

__all__ = ["ROOT", "repository_pages"]

ROOT = Path(__file__).parent.parent.parent
# document → its page
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/results/README.md": "results/index.md",
}
SHOWN = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
IMAGES = (".png", ".svg")
LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".sh": "sh", ".yml": "yaml"}
LONGEST = 100_000  # bytes of a file that is shown whole
_LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*)\]\((?P<target>[^()\s]+)\)"
)


def repository_pages() -> tuple[dict[str, str], dict[str, Path]]:
    """(path → page; path → file that the pages show, an image)."""
    pages: dict[str, str] = {}
    images: dict[str, Path] = {}
    documents = [*SHOWN, *_reports()]
    waiting = list(documents)
    while waiting:
        name = waiting.pop(0)
        if (page := _page_of(name)) in pages:
            continue
        if name in documents:
            pages[page], linked = _rewritten(name)
            for file in linked:
                if PurePosixPath(file).suffix in IMAGES:
                    images[f"files/{file}"] = ROOT / file
                else:
                    waiting.append(file)
        elif name not in PAGES:
            pages[page] = _shown(name)
    return pages, images


def _reports() -> list[str]:
    """The READMEs beside the committed results."""
    return sorted(
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "benchmarks" / "results").rglob("README.md")
    )


def _page_of(name: str) -> str:
    """The page that shows a file of the repository."""
    if name in PAGES:
        return PAGES[name]
    path = PurePosixPath(name)
    if path.name == "README.md" and name.startswith("benchmarks/results/"):
        return f"results/{path.parent.name}.md"
    return f"files/{name}.md"


def _rewritten(name: str) -> tuple[str, list[str]]:
    """(the document with links to pages of the site, the files of the repository it links to)."""
    text = (ROOT / name).read_text(encoding="utf-8")
    linked: list[str] = []
    fences = [block.text for block in blocks(text)]
    kept = {f"\0{number}\0": fence for number, fence in enumerate(fences)}
    for mark, fence in kept.items():
        text = text.replace(fence, mark, 1)

    def replaced(match: re.Match[str]) -> str:
        target, _, anchor = match["target"].partition("#")
        if "://" in target or target.startswith("mailto:") or not target:
            return match[0]
        file = os.path.normpath(os.path.join(os.path.dirname(name), target)).replace(os.sep, "/")
        if (ROOT / file).is_dir():
            file = f"{file}/README.md"
        if not (ROOT / file).is_file():
            raise FileNotFoundError(f"{name} links to {target}, which is not there")
        linked.append(file)
        own = os.path.dirname(_page_of(name)) or "."
        shown = f"files/{file}" if PurePosixPath(file).suffix in IMAGES else _page_of(file)
        path = os.path.relpath(shown, own).replace(os.sep, "/")
        return f"{match['image']}[{match['text']}]({path}{'#' + anchor if anchor else ''})"

    text = _LINK.sub(replaced, text)
    for mark, fence in kept.items():
        text = text.replace(mark, fence, 1)
    return text, linked


def _shown(name: str) -> str:
    """A file of the repository as a page."""
    path = ROOT / name
    language = LANGUAGES.get(path.suffix, "text")
    text = path.read_text(encoding="utf-8", errors="replace")
    if len(text) > LONGEST:
        return f"# {name}\n\n{len(text.encode()):,} bytes, in the repository.\n"
    fence = "`" * 6
    return f"# {name}\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n"
