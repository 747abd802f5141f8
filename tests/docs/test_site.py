"""The documentation's site, built once: what it shows, where its links lead, what it fetches."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import adapters_xtl
from adapters_xtl import studies, tasks
from docs.generator import built_site, shown_code
from docs.generator.pages import all_pages
from tests.pages import browser

ROOT = Path(__file__).parent.parent.parent


@cache
def pages() -> dict[str, str]:
    return all_pages()[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, whose build has already checked links, anchors and commands."""
    if find_spec("zensical") is None:
        pytest.skip("Zensical is not installed (pip install -e '.[docs]')")
    folder = tmp_path_factory.mktemp("documentation")
    code = (
        "import sys, pathlib, docs.generator.__main__ as build;"
        f" sys.exit(build.main(pathlib.Path({str(folder)!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_every_task_study_and_name_of_the_interface_has_its_place() -> None:
    assert {f"tasks/{name}.md" for name in tasks.names()} <= set(pages())
    assert {f"studies/{name}.md" for name in studies.names()} <= set(pages())
    headings = set(pages()["python.md"].split("\n"))
    assert {f"### {name}" for name in adapters_xtl.__all__ if name != "__version__"} <= headings


def test_a_task_page_has_the_rows_languages_settings_and_sources_of_its_task() -> None:
    page = pages()["tasks/panx.md"]
    assert "google/xtreme" in page and "`PAN-X.{code}`" in page and "unimelb-nlp/wikiann" in page
    assert "| `--languages xtreme` | 40 | ar, he," in page
    assert "| `train.epochs` | 3 | 10 | 3 |" in page  # bottleneck, full, lora
    assert "| `lr` | 1e-5 | 2e-5 |" in page and "XTREME's own scripts" in page


def test_a_command_page_has_every_option_of_its_parser() -> None:
    page = pages()["commands/recipe.md"]
    for flag in ("--on", "--data-file FILE", "--seeds", "--dry-run", "--memory GB"):
        assert f"| `{flag}" in page, flag
    assert "## xtl hub push" in pages()["commands/hub.md"]


def test_what_the_pages_show_can_be_typed() -> None:
    wrong = [line for name, text in pages().items() for line in shown_code.problems_in(name, text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["README.md", "benchmarks/README.md"])
def test_what_the_documents_beside_the_site_show_can_be_typed(name: str) -> None:
    path = ROOT / name
    if path.is_file():
        assert not shown_code.problems_in(name, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("command", "token"),
    [
        ("xtl recipee mnli", "recipee"),
        ("xtl recipe mnli --metod lora", "--metod"),
        ("xtl recipe mnly", "mnly"),
        ("xtl recipe mnli --method lorra", "lorra"),
        ("xtl recipe mnli --set train.stepz=3", "stepz"),
        ("xtl hub pusch RUN user/name", "pusch"),
        ("xtl recipe mnli --seed one", "one"),
        ("make recipee TASK=mnli", "recipee"),
        ("make recipe TASKS=mnli", "TASKS"),
    ],
)
def test_a_command_that_nobody_could_type_is_found(command: str, token: str) -> None:
    page = f"# A page\n\n```sh\n{command}\n```\n"
    (problem,) = shown_code.problems_in("page.md", page)
    assert problem.startswith("page.md:4:") and token in problem


def test_a_comment_a_continued_line_and_a_pipe_are_read_as_a_shell_reads_them() -> None:
    block = "xtl runs 'score>70'   # those above 70\nxtl tasks \\\n  --json | make help\n"
    assert [words for _, words in shown_code.commands_of(block)] == [
        ["xtl", "runs", "score>70"],
        ["xtl", "tasks", "--json"],
        ["make", "help"],
    ]


def test_a_page_that_is_wrong_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html">no page</a><a href="#nowhere">no anchor</a><h1 id="here">A</h1>'
        '<a href="#here">fine</a><a href="https://example.org/">fine: only a link</a>'
        '<script src="https://example.org/x.js"></script><style>@import "//example.org/f";</style>'
    )
    problems = built_site.problems_of(tmp_path)
    assert len(problems) == 4
    for token in ("b.html", "#nowhere", "x.js", "//example.org/f"):
        assert any(token in problem for problem in problems), token


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.chromium() as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "token"),
    [
        ("index.html", "Train, stack, look"),
        ("tasks/panx.html", "PAN-X.{code}"),
        ("commands/recipe.html", "--data-file"),
    ],
)
def test_a_browser_fetches_nothing_from_elsewhere_and_finds_every_link(
    site: Path, chromium: Any, page: str, token: str
) -> None:
    browser.show(chromium, site / page)
    assert token in chromium.find_element("tag name", "article").text
    outside = [url for url in browser.requested(chromium) if not url.startswith(("file:", "blob:"))]
    assert not outside
    links = chromium.execute_script("return Array.from(document.links, (link) => link.href)")
    inside = [url.partition("#")[0] for url in links if url.startswith("file:")]
    assert len(inside) > 20
    missing = [url for url in inside if not Path(url.removeprefix("file://")).is_file()]
    assert not missing, json.dumps(missing)


@pytest.mark.slow
def test_drawings_stand_in_the_page_and_say_what_they_show(site: Path) -> None:
    text = (site / "compositions.html").read_text(encoding="utf-8")
    assert text.count('<figure class="drawing"><svg') == 4
    assert 'aria-label="One layer of a fusion' in text
