"""All pages of the site and its navigation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from docs.generator.command_pages import command_pages
from docs.generator.parts import with_parts
from docs.generator.python_page import python_page
from docs.generator.repository_pages import ROOT, repository_pages
from docs.generator.study_pages import study_pages
from docs.generator.task_pages import task_pages

__all__ = ["NAVIGATION", "all_pages", "navigation", "write_pages"]

WRITTEN = ROOT / "docs" / "pages"
CONFIG = ROOT / "docs" / "zensical.toml"
# title and page, or title and what stands below it; "…/*" stands for all pages of that folder
NAVIGATION: tuple[tuple[str, Any], ...] = (
    ("Start", (("Start", "index.md"), ("Five words", "words.md"))),
    (
        "Guide",
        (
            ("Rows of your own", "own-rows.md"),
            ("Methods", "methods.md"),
            ("Compositions", "compositions.md"),
            ("Modules in the upper layers", "upper-layers.md"),
            ("Memory", "memory.md"),
            ("Using a module", "modules.md"),
            ("Sharing and trust", "sharing.md"),
            ("What numbers mean", "numbers.md"),
            ("From adapters, peft, jiant", "coming-from.md"),
        ),
    ),
    ("Tasks", (("All tasks", "tasks.md"), ("", "tasks/*"))),
    ("Studies", (("Asking one", "studies.md"), ("", "studies/*"))),
    (
        "Reference",
        (
            ("Commands", "commands.md"),
            ("", "commands/*"),
            ("Python", "python.md"),
            ("Settings", "settings.md"),
            ("Backbones", "backbones.md"),
            ("Formats and metrics", "metrics.md"),
        ),
    ),
    (
        "Project",
        (
            ("Add a task, a method, a study", "contributing.md"),
            ("Architecture", "architecture.md"),
            ("Results", "results/index.md"),
            ("", "results/*"),
            ("Changes", "changelog.md"),
        ),
    ),
)


def all_pages() -> tuple[dict[str, str], dict[str, Path]]:
    """(path → Markdown of every page; path → file that is copied as it is)."""
    pages, files = repository_pages()
    for path in sorted(WRITTEN.rglob("*")):
        name = path.relative_to(WRITTEN).as_posix()
        if path.suffix == ".md":
            pages[name] = with_parts(name, path.read_text(encoding="utf-8"))
        elif path.is_file():
            files[name] = path
    for made in (task_pages(), command_pages(), study_pages(), {"python.md": python_page()}):
        pages |= made
    return pages, files


def navigation(pages: dict[str, str]) -> str:
    """The navigation as zensical.toml has it. KeyError names a page that is not there."""
    return f"nav = [{', '.join(_entries(NAVIGATION, pages))}]"


def _entries(entries: tuple[tuple[str, Any], ...], pages: dict[str, str]) -> list[str]:
    shown = []
    listed = {page for _, page in entries if isinstance(page, str)}
    for title, below in entries:
        if not isinstance(below, str):
            shown.append(f'{{"{title}" = [{", ".join(_entries(below, pages))}]}}')
        elif below.endswith("/*"):
            inside = sorted(page for page in pages if page.startswith(below[:-1]))
            shown += [
                f'{{"{_title(pages[page])}" = "{page}"}}' for page in inside if page not in listed
            ]
        elif below in pages:
            shown.append(f'{{"{title}" = "{below}"}}')
        else:
            raise KeyError(below)
    return shown


def _title(text: str) -> str:
    """The first heading of a page."""
    return text.partition("\n")[0].lstrip("# ").replace('"', "'").replace("`", "")


def write_pages(folder: Path) -> None:
    """Writes the pages below `folder`/pages, and the configuration beside them."""
    pages, files = all_pages()
    shutil.rmtree(folder / "pages", ignore_errors=True)
    for name, text in pages.items():
        path = folder / "pages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, file in files.items():
        path = folder / "pages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, path)
    config = CONFIG.read_text(encoding="utf-8")
    (folder / "zensical.toml").write_text(
        config.replace("[project]\n", f"[project]\n{navigation(pages)}\n", 1), encoding="utf-8"
    )
