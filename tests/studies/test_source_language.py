"""The study source-language: planted effects and a null on made-up scores, one on real trainings of
a tiny random XLM-R, and all of it on the sample rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import studies, tasks
from adapters_xtl.base.errors import RequestError
from adapters_xtl.grid.cells import Grid
from adapters_xtl.grid.finished_cells import FinishedCell, FinishedCells
from adapters_xtl.grid.study_file import make_grid, read_study_file
from adapters_xtl.grid.summary import Scored
from adapters_xtl.runs.outcome import Outcome
from adapters_xtl.runs.records import Metrics, TaskScores
from adapters_xtl.runs.stored_runs import read_run
from adapters_xtl.studies._source_language_tables import spearman
from adapters_xtl.studies._typology import distance, language
from tests.data.mirrors import mirror_of
from tests.studies.carry_out import carry_out_whole

STUDY = studies.load("source-language")
AXES = {name: [axis.name for axis in studies.load(name).axes] for name in studies.names()}
SCORED = ("en", "ar", "zh", "fr", "ru", "th", "tr", "ur", "vi")
FIVE = ("seeds=1,2,3,4,5", "source=en,ar,zh", "on=none")
LABELS = ("entailment", "neutral", "contradiction")


def grid_of(*set_: str) -> Grid:
    file = read_study_file("source-language-smoke", studies.names(), AXES, set_)
    return make_grid(STUDY, file, runs="runs")


def finished(
    grid: Grid, gain: Callable[[str, str, str], float], noise: float, seed: int
) -> FinishedCells:
    """Made-up scores: 50 and `gain(on, source, scored language)`, plus noise by run and language."""
    draw = random.Random(seed)
    plan: Any = None  # no score depends on it
    cells = []
    for cell in grid.cells:
        point, runs = dict(cell.point), []
        for number in grid.seeds:
            by_language = {
                code: 50 + gain(point["on"], point["source"], code) + draw.gauss(0, noise)
                for code in SCORED
            }
            scores = TaskScores(
                "validation",
                "accuracy",
                sum(by_language.values()) / len(by_language),
                {code: {"accuracy": value, "n": 100} for code, value in by_language.items()},
            )
            metrics = Metrics({cell.task: scores}, scores.score, None)
            runs.append(Scored(number, plan, Outcome("", Path(), True, 0.0, metrics)))
        cells.append(FinishedCell(cell, len(runs), runs))
    return FinishedCells(grid, cells, STUDY.contrasts(grid.cells), STUDY.margin)


def verdicts(cells: FinishedCells) -> dict[str, str]:
    return {
        dict(result.contrast.of)["source"]: result.difference.verdict
        for result in cells.contrasts
        if result.difference
    }


def test_every_source_is_matched_with_the_others_of_its_training() -> None:
    grid = grid_of("source=en,zh,ko", "task=xnli,pawsx", "on=none,mnli")
    settings = {
        (cell.task, *cell.chain, dict(cell.point)["source"]): (
            dict(cell.overrides),
            dict(cell.parent_overrides),
        )
        for cell in grid.cells
    }
    chinese = {"train.languages": ("zh",), "train.matched": ("en", "zh")}
    assert settings["xnli", "zh"] == (chinese, {}), "MNLI is not translated into Korean"
    assert settings["xnli", "mnli", "zh"] == ({}, chinese)
    assert settings["pawsx", "ko"][0]["train.matched"] == ("en", "zh", "ko")
    assert ("xnli", "ko") not in settings and ("pawsx", "mnli", "ko") not in settings


def test_an_effect_counts_in_languages_that_no_condition_is_trained_in() -> None:
    """Chinese gains 4 points in them; Arabic gains 30 in Arabic alone, which is no transfer."""

    def gain(on: str, source: str, scored: str) -> float:
        if source == "zh" and scored not in ("en", "ar", "zh"):
            return 4.0
        return 30.0 if source == scored == "ar" else 0.0

    cells = finished(grid_of(*FIVE), gain, noise=0.2, seed=1)
    assert verdicts(cells) == {"ar": "equivalent", "zh": "higher"}
    table = STUDY.tables(cells)[0]
    assert table.columns == ("unseen languages", "en", *sorted(SCORED[1:]))
    by_source = {line.label: line for line in table.lines}
    assert by_source["zh"].entries[0].value == pytest.approx(4, abs=0.3)
    assert by_source["ar"].entries[0].value == pytest.approx(0, abs=0.3)
    assert by_source["ar"].entries[2].value == pytest.approx(30, abs=0.5)
    assert not by_source["en"].difference and by_source["zh"].difference
    answer = STUDY.answer(cells)
    assert answer is not None and answer.verdict == "higher"
    assert "mean of 2: +2." in answer.headline or "mean of 2: +1.9" in answer.headline


def test_without_an_effect_few_differences_are_found() -> None:
    """At 95 % some 5 % of 80 intervals miss 0: 13 is more than four standard deviations more."""
    grid, wrong = grid_of(*FIVE), 0
    for seed in range(40):
        cells = finished(grid, lambda on, source, scored: 0.0, noise=2.0, seed=seed)
        found = verdicts(cells)
        assert len(found) == 2
        wrong += sum(verdict in ("higher", "lower") for verdict in found.values())
    assert wrong <= 13


def test_differences_follow_a_planted_distance() -> None:
    """Every source gains in the languages that are nearer to it than to English."""

    def gain(on: str, source: str, scored: str) -> float:
        from_source, from_english = distance(source, scored), distance("en", scored)
        assert from_source is not None and from_english is not None
        return 0.0 if source == "en" else 10 * (from_english - from_source)

    def caption(planted: Callable[[str, str, str], float]) -> str:
        cells = finished(grid_of(*FIVE), planted, noise=0.3, seed=2)
        figures = [figure for figure in STUDY.figures(cells) if figure.kind == "scatter"]
        assert [series.name for series in figures[0].series] == ["ar", "zh"]
        assert {point.note for point in figures[0].series[0].points} == set(SCORED) - {"en", "ar"}
        return figures[0].caption

    assert "Spearman's correlation -0.9" in caption(gain)
    assert "Spearman's correlation -0.9" not in caption(lambda on, source, scored: 0.0)
    assert spearman([(1, 5), (2, 6), (2, 6), (3, 9)]) == pytest.approx(1)
    assert spearman([(1, 1), (2, 1), (3, 1)]) is None


def test_back_translated_english_is_a_control_of_its_own() -> None:
    """Translation costs 3 points, the language of the rows nothing."""
    grid = grid_of("seeds=1,2,3,4,5", "source=en,en-bt,zh", "on=none")
    cells = finished(
        grid, lambda on, source, scored: 0.0 if source == "en" else -3.0, noise=0.1, seed=3
    )
    found = {
        (dict(result.contrast.of)["source"], dict(result.contrast.against)["source"]): (
            result.difference and result.difference.verdict
        )
        for result in cells.contrasts
    }
    assert found == {
        ("en-bt", "en"): "lower",
        ("zh", "en"): "lower",
        ("zh", "en-bt"): "equivalent",
    }


def test_native_rows_are_held_against_translated_ones() -> None:
    """Arabic loses 5 points as a translation (SQuAD) and 1 where it is native (TyDiQA)."""
    loss = {"squad1": -5.0, "tydiqa": -1.0}
    cells = finished(
        grid_of("seeds=1,2,3,4,5", "task=xnli", "on=squad1,tydiqa", "source=en,ar"),
        lambda on, source, scored: loss[on] if source == "ar" else 0.0,
        noise=0.1,
        seed=4,
    )
    table = next(table for table in STUDY.tables(cells) if table.name.startswith("native"))
    (line,) = table.lines
    assert line.entries[0].value == pytest.approx(-4, abs=0.2)
    assert line.entries[0].verdict == "lower" and line.label.startswith("ar: squad1 (translated)")


def test_distances_are_of_the_table_alone() -> None:
    assert distance("fr", "es") == 0 and distance("hi", "ur") == pytest.approx(1 / 3)
    assert distance("en", "de") == pytest.approx((0 + 0 + 2 / 4) / 3)
    assert distance("ar", "tr") == pytest.approx((1 + 1 + 4 / 4) / 3)
    assert distance("bg", "en") == pytest.approx((0.5 + 1 + 0) / 3)
    # WALS has one of the four features of Bengali: the other three count neither way
    assert distance("bn", "en") == pytest.approx((0.5 + 1 + 1 / 1) / 3)
    assert distance("bn", "ko") == pytest.approx((1 + 1 + 0) / 3)
    assert distance("en-bt", "zh") == distance("en", "zh") and distance("en", "yo") is None
    for name in ("xnli", "xquad", "mlqa", "tydiqa", "pawsx"):
        assert all(language(code) for code in tasks.load(name).all_languages), name


@pytest.mark.parametrize(
    ("set_", "complaint"),
    [
        ("source=en,zh-tw", "no task has train rows in 'zh-tw'"),
        ("source=en,ko", "[axes] source: ko: no cell has it here"),
        ("on=mnli>squad1", "takes none or one task"),
        ("on=random", "takes none or one task"),
        ("on=mnly", "did you mean 'mnli'"),
    ],
)
def test_a_wrong_axis_costs_one_line(set_: str, complaint: str) -> None:
    with pytest.raises(RequestError) as raised:
        grid_of("task=xnli", set_)
    assert complaint in str(raised.value) and "\n" not in str(raised.value)


def test_all_of_the_smoke_file(tmp_path: Path) -> None:
    payload = carry_out_whole("source-language-smoke", tmp_path)
    assert payload["answer"]["verdict"] and len(payload["contrasts"]) == 6
    assert {tuple(contrast["leave_out"]) for contrast in payload["contrasts"]} == {("en", "zh")}
    # French and Hindi, whose rows are translations of the same twenty items
    assert {contrast["items"]["items"] for contrast in payload["contrasts"]} == {20}
    trained = [table for table in payload["tables"] if table["name"].startswith("trained-")]
    for table in trained:
        rows = {entry["value"] for line in table["lines"] for entry in line["entries"][:1]}
        assert rows == {33.0} and "the same items" in " ".join(table["notes"])
        assert "every source took the same number of steps" in table["notes"]
    assert [table["lines"][1]["label"] for table in trained] == ["en-bt (back-translated)"] * 2
    parents = [read_run(path) for path in tmp_path.glob("mnli/*")]
    assert len(parents) == 3 * 2
    assert {run.module.run.hyper.matched for run in parents if run.module} == {
        ("en", "en-bt", "zh")
    }
    assert {figure["kind"] for figure in payload["figures"]} == {"heatmap", "scatter"}


def informative(hypothesis: str, count: int, word: Callable[[int], str]) -> dict[str, list[Any]]:
    """NLI rows whose premise is one word, repeated."""
    return {
        "premise": [f"{word(number)} " * 6 for number in range(count)],
        "hypothesis": [hypothesis] * count,
        "label": [number % 3 for number in range(count)],
    }


def test_a_source_that_must_help_is_found_by_real_trainings(tmp_path: Path) -> None:
    """The words of the Chinese rows tell the label, as they do in the scored languages; those of
    the English and Arabic rows tell nothing.
    """
    words = ("apple", "night", "seven")
    files = {
        f"facebook/xnli/{code}/train-00000-of-00001.parquet": informative(
            "trained", 120, (lambda n: words[n % 3]) if code == "zh" else (lambda n: words[n // 40])
        )
        for code in ("en", "ar", "zh")
    }
    for code in ("en", "vi", "th"):
        files[f"facebook/xnli/{code}/validation-00000-of-00001.parquet"] = informative(
            "scored", 30, lambda n: words[n % 3]
        )
    mirror_of(tmp_path / "rows", files, {"label": list(LABELS)})
    payload = carry_out_whole(
        "source-language-smoke",
        tmp_path / "runs",
        f"data={tmp_path / 'rows'}",
        "source=en,ar,zh",
        "on=none",
        "languages=vi,th",
        "seeds=1,2,3",
        "set.train.max_steps=40",
        "set.train.eval_every=40",
        "set.train.batch_size=16",
        "set.train.lr=0.01",
    )
    by_source = {contrast["of"]["source"]: contrast for contrast in payload["contrasts"]}
    assert by_source["zh"]["verdict"] == "higher" and by_source["zh"]["mean"] > 40
    assert by_source["ar"]["verdict"] in ("equivalent", "inconclusive")
