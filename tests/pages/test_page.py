"""`xtl page`: one file, read back in Chromium against the records of runs and studies."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.pages import page_run_cards
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import StoredRun, list_runs
from tests.command_line import xtl
from tests.conftest import ROOT
from tests.pages.browser import chromium, requested, rows_of, show
from tests.pages.study_record import HOSTILE, study_record

TINY = ("--backbone", "tiny", "--data", "embedded")
SHORT = ("--set", "train.max_steps=2", "--set", "train.select_examples=6")
STUDY = "studies/transfer-0123456789ab"
BY_TASK = "table-pawsx-validation"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of pawsx with and without a parent, of panx and of tatoeba; a study that names them.

    The first German prediction of pawsx is a stranger's markup.
    """
    root = tmp_path_factory.mktemp("page") / "runs"
    settings = (*TINY, *SHORT, "--runs", root)
    xtl("recipe", "pawsx", "--on", "mnli", "--baseline", "--method", "lora", *settings,
        "--set", "method.r=2", "--set-parents", "train.max_steps=1",
        "--set-parents", "method.r=3")  # fmt: skip
    xtl("recipe", "panx", "--languages", "en,de", *settings, "--set", "eval.max_examples=3")
    xtl("recipe", "tatoeba", "--on", "mnli", "--method", "lora", "--languages", "de,fr", *TINY,
        "--set-parents", "train.max_steps=1", "--set-parents", "method.r=3", "--runs", root)  # fmt: skip
    for run in _runs(root):
        path = run.path / "predictions/pawsx/de.jsonl"
        if path.is_file():
            first, *rest = path.read_text().splitlines(keepends=True)
            row = {**json.loads(first), "prediction": HOSTILE}
            path.write_text("".join([json.dumps(row) + "\n", *rest]))
    names = {bool(run.spec.parents): f"pawsx/{run.spec.id}" for run in _runs(root, "pawsx")}
    study = root / STUDY
    study.mkdir(parents=True)
    record = study_record([names[False]], [names[True], "pawsx/" + "0" * 12])
    (study / "study.json").write_text(json.dumps(record))
    return root


@pytest.fixture(scope="module")
def pages(store: Path) -> dict[str, Path]:
    """The page of the study and that of the store."""
    made = {
        # the study lies in a store: another one that the environment names has none of its runs
        "study": json.loads(xtl("page", store / STUDY, "--json", XTL_RUNS="elsewhere").stdout),
        "store": json.loads(xtl("page", "--runs", store, "--json").stdout),
    }
    assert made["study"]["path"] == str(store / STUDY / "page.html")
    assert made["study"]["missing"] == ["pawsx/000000000000"]
    assert (made["store"]["path"], made["store"]["runs"]) == (str(store / "page.html"), 5)
    return {name: Path(payload["path"]) for name, payload in made.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


def _runs(root: Path, task: str = "") -> list[StoredRun]:
    return [run for run in list_runs(Store(root))[0] if task in ("", run.spec.task)]


# ---------------------------------------------------------------------------- in the browser


def test_the_page_needs_nothing_from_elsewhere_and_has_no_error(
    browser: Any, pages: dict[str, Path]
) -> None:
    for page in pages.values():
        show(browser, page)
        assert requested(browser) == []
        assert browser.get_log("browser") == []
        assert "http://" not in page.read_text().replace("http://www.w3.org/", "")


def test_the_scores_of_the_store_are_those_of_its_records(
    browser: Any, store: Path, pages: dict[str, Path]
) -> None:
    show(browser, pages["store"])
    assert STUDY in browser.find_element("id", "overview").text
    rows = {row[0]: row[1:] for row in rows_of(browser, f"store-{BY_TASK}")}
    for run in _runs(store, "pawsx"):
        scores = run.metrics.tasks["pawsx"]
        name = "mnli>pawsx, lora, stack" if run.spec.parents else "pawsx, lora"
        languages = ["en", *sorted(set(scores.languages) - {"en"})]
        expected = [scores.score, *(scores.languages[code]["accuracy"] for code in languages)]
        assert rows[name] == [f"{value:.1f}" for value in expected]


def test_the_numbers_of_a_study_are_those_of_its_record(
    browser: Any, pages: dict[str, Path]
) -> None:
    show(browser, pages["study"])
    assert browser.find_element("css selector", "h1").text == (
        "Which intermediate task helps which target?"
    )
    assert rows_of(browser, "study-table-transfer") == [
        ["none", "57.1", "41.2", "48.0"],
        ["mnli", "+4.2*", "-3.5", "–"],
        ["squad1", "(-0.5)", "+0.1°", "–"],
    ]
    table = browser.find_element("id", "study-table-transfer").text
    for words in ("failed", "not run", "one seed", "[+1.5, +7.0]", "▲", "▼"):
        assert words in table
    [first, _] = rows_of(browser, "study-contrasts")
    assert first == ["mnli on pawsx", "+4.25", "1, 2", "higher", "0.0125", "0.025", "higher"]
    costs = rows_of(browser, "study-cost-table")
    assert costs[1][:5] == ["pawsx: bottleneck on mnli", "2", "36.5", "0.0101", "1,500"]
    failed = browser.find_element("id", "study-failed").text
    assert "on mnli, task panx (failed)" in failed and "the loss is nan at step 7" in failed
    assert "on squad1, task panx (missing)" in failed
    text = browser.find_element("id", "content").text
    assert "MNLI helps paraphrase identification by 4.3 points." in text
    assert "tiny is random weights: nothing about XLM-R." in text
    drawn = browser.execute_script(
        "return Array.from(document.querySelectorAll('svg > title'), (title) => title.textContent)"
    )
    assert drawn[:2] == ["Gain by an intermediate task", "Contrasts with their intervals"]
    assert "pawsx: training loss" in drawn and "pawsx: score by language" in drawn


def test_texts_of_strangers_are_harmless(browser: Any, pages: dict[str, Path]) -> None:
    for page in pages.values():
        show(browser, page)
        browser.execute_script(
            "document.getElementById('prediction-language').selectedIndex = 0;"
            "document.getElementById('prediction-language').dispatchEvent(new Event('change'))"
        )
        assert browser.title.endswith("adapters_xtl")
        assert browser.find_elements("tag name", "img") == []
    show(browser, pages["study"])
    shown = browser.find_element("id", "prediction-table").text
    assert HOSTILE in shown


def test_a_table_is_sorted_by_the_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["study"])
    headings = browser.find_elements("css selector", "#study-table-transfer thead th")
    browser.execute_script("arguments[0].focus()", headings[0].find_element("tag name", "button"))
    browser.switch_to.active_element.send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    orders = {}
    for _ in range(2):
        order = headings[2].get_attribute("aria-sort")
        orders[order] = [row[0] for row in rows_of(browser, "study-table-transfer")]
        browser.switch_to.active_element.send_keys(Keys.SPACE)
    assert orders == {
        "descending": ["none", "squad1", "mnli"],
        "ascending": ["none", "mnli", "squad1"],
    }, "the line of scores stays above that of the differences to it"
    headings = browser.find_elements("css selector", "#study-contrasts thead th")
    for order, names in (
        ("descending", ["mnli on pawsx", "squad1 on pawsx"]),
        ("ascending", ["mnli on pawsx", "squad1 on pawsx"]),
    ):
        headings[4].find_element("tag name", "button").send_keys(Keys.ENTER)
        assert headings[4].get_attribute("aria-sort") == order
        contrasts = [row[0] for row in rows_of(browser, "study-contrasts")]
        assert contrasts == names, "what has no number is last"


def test_predictions_are_browsed_by_language_a_hundred_a_page(
    browser: Any, store: Path, pages: dict[str, Path]
) -> None:
    from selenium.webdriver.support.ui import Select

    def select(name: str) -> Select:
        return Select(browser.find_element("id", f"prediction-{name}"))

    def ids() -> list[str]:
        return [
            cell.text
            for cell in browser.find_elements(
                "css selector", "#prediction-table tbody td:first-child"
            )
        ]

    def status() -> str:
        return str(browser.find_element("id", "prediction-count").text)

    show(browser, pages["store"])
    select("run").select_by_visible_text("mnli · lora · seed 1")
    [run] = _runs(store, "mnli")
    rows = [
        json.loads(line)
        for line in (run.path / "predictions/mnli/en.jsonl").read_text().splitlines()
    ]
    right = [row["prediction"] == row["gold"] for row in rows]
    assert 300 < len(rows) <= 500, "all of them are in the page"
    expected = f"{len(rows)} predictions, {sum(right)} of them right"
    assert status() == f"1 to 100 of {len(rows)} shown; {expected}"
    assert ids() == [row["id"] for row in rows[:100]]
    assert browser.find_element("id", "prediction-previous").get_attribute("disabled")
    browser.find_element("id", "prediction-next").click()
    assert ids() == [row["id"] for row in rows[100:200]]
    for _ in range(2):
        browser.find_element("id", "prediction-next").click()
    select("filter").select_by_visible_text("wrong")
    wrong = [row["id"] for row, is_right in zip(rows, right, strict=True) if not is_right]
    assert ids() == wrong[:100]
    marks = browser.find_elements("css selector", "#prediction-table tbody td:nth-child(2)")
    assert {mark.text for mark in marks} == {"✕ wrong"}
    select("filter").select_by_visible_text("all")
    select("run").select_by_visible_text("panx · bottleneck · seed 1")
    select("language").select_by_visible_text("de")
    assert status().startswith("1 to 3 of 3 shown")


@pytest.mark.parametrize("name", ["study", "store"])
def test_a_phone_shows_it_without_scrolling_sideways(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    show(browser, pages[name], width=320)
    browser.execute_script(
        "for (const run of document.querySelectorAll('details')) run.open = true"
    )
    widths = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert widths == [320, 320]
    if name == "study":
        box = browser.find_element("css selector", "#study-cost .scroll")
        assert int(box.get_attribute("scrollWidth")) > int(box.get_attribute("clientWidth"))


def test_dark_mode_and_print_have_colours_of_their_own(
    browser: Any, pages: dict[str, Path]
) -> None:
    def paper(media: str, scheme: str) -> tuple[str, str, bool]:
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        ground, ink = browser.execute_script(
            "return [document.body, document.querySelector('.plot svg')].map((element, place) =>"
            " getComputedStyle(element)[place ? 'color' : 'backgroundColor'])"
        )
        shown = browser.execute_script(
            "return document.querySelector('details.run:not([open]) dl').checkVisibility()"
        )
        return ground, ink, shown

    show(browser, pages["study"])
    try:
        assert paper("screen", "light") == ("rgb(255, 255, 255)", "rgb(28, 33, 39)", False)
        assert paper("screen", "dark") == ("rgb(20, 23, 27)", "rgb(228, 231, 235)", False)
        assert paper("print", "dark") == ("rgb(255, 255, 255)", "rgb(0, 0, 0)", True)
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_tables_and_figures_are_there_without_a_script(
    browser: Any, pages: dict[str, Path]
) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, pages["study"])
        assert browser.find_element("id", "study-table-transfer").is_displayed()
        assert browser.find_element("css selector", ".plot svg").is_displayed()
        assert "a script, which is off" in browser.find_element("id", "predictions").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


# ---------------------------------------------------------------------------- commands of runs


def test_the_command_of_a_run_makes_the_same_run_again(store: Path, tmp_path: Path) -> None:
    made = {}
    for run in _runs(store):
        line = shlex.split(page_run_cards.command(run.spec).line)
        elsewhere = ("--runs", tmp_path / "empty", "--dry-run", "--json")
        here = ("--runs", store, "--json")
        done = xtl(*line[1:], *(elsewhere if line[1] == "recipe" else here))
        made[run.spec.id] = json.loads(done.stdout)["id"]
    assert made == {identity: identity for identity in made} and len(made) == 5


def test_the_page_names_no_directory_of_the_machine(store: Path) -> None:
    [run] = [run for run in _runs(store, "pawsx") if run.spec.parents]
    places = {"data": "/home/ada/mirror", "backbone": "~/xlmr", "on": ["./mnli-bundle"]}
    command = page_run_cards.command(replace(run.spec, request={**run.spec.request, **places}))
    assert "--data DIR" in command.line and "--backbone DIR" in command.line
    assert "--on mnli-bundle" in command.line and "DIR stands for" in command.note
    line = page_run_cards.without_places("xtl study paper --runs /home/ada/runs --set a=1/2")
    assert line == "xtl study paper --runs DIR --set a=1/2"
    line = page_run_cards.without_places("xtl study paper --runs=/home/ada/r --set data=~/mirror")
    assert line == "xtl study paper --runs=DIR --set data=DIR"
    line = page_run_cards.without_places(
        "xtl study x --set=data=/home/a/x --on=mnli,../b --level .9"
    )
    assert line == "xtl study x --set=data=DIR --on=mnli,DIR --level .9"
    assert page_run_cards.without_places("xtl study x --set a=.1") == "xtl study x --set a=.1"


# ---------------------------------------------------------------------------- what is wrong


def test_damaged_and_failed_runs_are_named_with_what_is_wrong(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "runs"
    shutil.copytree(store, copy)
    [panx] = (copy / "panx").iterdir()
    (panx / "metrics.json").write_text("{")
    [tatoeba] = (copy / "tatoeba").iterdir()
    (tatoeba / "predictions/tatoeba/de.jsonl").write_text("{no json\n")
    [mnli] = (copy / "mnli").iterdir()
    (mnli / "train_log.jsonl").write_text('{"step": 1}\n')
    failed = copy / "failed/udpos-0123456789ab-1"
    failed.mkdir(parents=True)
    (failed / "error.txt").write_text("no space left <b>anywhere</b>\n")
    payload = json.loads(xtl("page", "--runs", copy, "--json").stdout)
    assert list(payload["damaged"]) == [f"panx/{panx.name}"]
    html = Path(payload["path"]).read_text()
    assert f"panx/{panx.name}" in html and "metrics.json: sha256" in html
    assert "udpos-0123456789ab" in html and "no space left &lt;b&gt;anywhere" in html
    assert "predictions of tatoeba in de cannot be read" in html
    assert f"mnli/{mnli.name}/train_log.jsonl, line 1: cannot be read" in html


def test_a_request_with_nothing_to_show_costs_one_line(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (tmp_path / "here").mkdir()
    wrong = {
        ("--runs", tmp_path / "nowhere"): "no runs and no study",
        (tmp_path / "here",): "no study here",
        (tmp_path / "absent",): "no such directory",
    }
    for arguments, words in wrong.items():
        said = xtl("page", *arguments, code=2).stderr
        assert words in said and len(said.strip().splitlines()) == 1
    lone = tmp_path / "lone/studies/one"
    lone.mkdir(parents=True)
    (lone / "study.json").write_text('{"rows": []}')
    assert f"xtl page {lone}" in xtl("page", "--runs", tmp_path / "lone", code=2).stderr
    (study / "study.json").write_text('{"rows": [{"task": 7}]}')
    assert "'rows.0.task' is 7" in xtl("page", study, code=2).stderr
    (study / "study.json").write_text('{"rows": [')
    assert "study.json" in xtl("page", study, code=2).stderr
    (study / "study.json").write_text('{"rows": []}')
    assert "-o" in xtl("page", study, study, code=2).stderr
    assert "no directory" in xtl("page", study, "-o", tmp_path / "no/page.html", code=2).stderr
    assert "a directory" in xtl("page", study, "-o", tmp_path, code=2).stderr
    assert sorted(path.name for path in study.iterdir()) == ["study.json"]


def test_several_studies_share_a_page(store: Path, tmp_path: Path) -> None:
    committed = ROOT / "benchmarks/results/compare-mini"
    studies = [path.parent for path in sorted(committed.glob("*/comparison.json"))]
    page = tmp_path / "all.html"
    payload = json.loads(xtl("page", *studies, "-o", page, "--json").stdout)
    assert payload["studies"] == len(studies) >= 5
    html = page.read_text()
    for study in studies:
        record = json.loads((study / "comparison.json").read_text())
        for row in record["rows"]:
            assert f">{row['score']['mean']:.1f}<" in html
        for sentence in record["no_evidence"]:
            assert sentence in html
