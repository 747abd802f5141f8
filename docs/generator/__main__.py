"""Builds the site in build/docs/site, and fails where a link, an anchor or a shown command is wrong
or a page would fetch something from elsewhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from docs.generator.built_site import problems_of
from docs.generator.pages import all_pages, write_pages
from docs.generator.repository_pages import ROOT
from docs.generator.shown_code import problems_in

MISSING = "Zensical is not installed: pip install -c constraints.txt -e '.[docs]' (or: make docs)"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FOLDER = re.compile(r'href="(\.\.?(?:/\.\.)*)/?"')
BUILD = ROOT / "build" / "docs"


def main(folder: Path = BUILD) -> int:
    """0 where the site was built and nothing is wrong with it, else 1 (2: Zensical is missing)."""
    if find_spec("zensical") is None:
        print(MISSING, file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    pages, _ = all_pages()
    wrong = [line for page, text in pages.items() for line in problems_in(page, text)]
    write_pages(folder)
    shutil.rmtree(folder / "site", ignore_errors=True)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        told = built.stderr.partition("Traceback")[0] + built.stdout
        print(_COLOUR.sub("", told).strip(), file=sys.stderr)
        return 1
    _name_index_pages(folder / "site")
    wrong += problems_of(folder / "site")
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(f"{len(pages)} pages: {(folder / 'site' / 'index.html')}")
    return 1 if wrong else 0


def _name_index_pages(site: Path) -> None:
    """Turns links to a folder into links to its index.html, which also work without a server."""
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        path.write_text(_FOLDER.sub(r'href="\1/index.html"', text), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
