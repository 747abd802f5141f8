"""The study shift: planted changes of a drop and a null on made-up scores; real trainings of which one
parent must help; all of it on a tiny random XLM-R with sample rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import studies, tasks
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import read_json
from adapters_xtl.base.statistics import paired
from adapters_xtl.cli.commands import study as command
from adapters_xtl.data.locate import locate_report, locate_training
from adapters_xtl.data.reading import Reader, read_report, read_training
from adapters_xtl.data.shots import row_digest
from adapters_xtl.data.sources import Source, open_source
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.cells import Grid
from adapters_xtl.grid.finished_cells import FinishedCell, FinishedCells
from adapters_xtl.grid.study_file import make_grid, read_study_file
from adapters_xtl.grid.summary import Scored
from adapters_xtl.runs.outcome import Outcome
from adapters_xtl.runs.records import Metrics
from adapters_xtl.tasks import Task
from tests.data.mirrors import mirror_of
from tests.studies.carry_out import carry_out_whole

STUDY = studies.load("shift")
AXES = {name: [axis.name for axis in studies.load(name).axes] for name in studies.names()}
FIVE = ("seeds=1,2,3,4,5",)
# two shifts of domain in one language, and one of language
PAIRS = ("task=mnli_genres,americasnli", "language=en,quy", "domain=letters,oup,americas")


def grid_of(*set_: str) -> Grid:
    file = read_study_file("shift-smoke", studies.names(), AXES, set_)
    return make_grid(STUDY, file, runs="runs")


def finished(
    grid: Grid, score: Callable[[dict[str, str]], float], noise: float, seed: int
) -> FinishedCells:
    """Made-up scores: those of a point, plus noise by the run."""
    draw = random.Random(seed)
    plan: Any = None  # no score depends on it
    cells = []
    for cell in grid.cells:
        runs = [
            Scored(
                number,
                plan,
                Outcome(
                    "",
                    Path(),
                    True,
                    0.0,
                    Metrics({}, score(dict(cell.point)) + draw.gauss(0, noise), None),
                ),
            )
            for number in grid.seeds
        ]
        cells.append(FinishedCell(cell, len(runs), runs))
    return FinishedCells(grid, cells, STUDY.contrasts(grid.cells), STUDY.margin)


def test_a_planted_change_is_found_in_its_row_and_language_has_a_mean_of_its_own() -> None:
    """The intermediate task gains 4 points in the domain; outside it 9 in letters, 4 in oup, and 24
    in Quechua.
    """
    gains = {"letters": 9.0, "oup": 4.0, "americas": 24.0}

    def score(point: dict[str, str]) -> float:
        gain = 4.0 if point["side"] == "in" else gains[point["domain"]]
        return (80.0 if point["side"] == "in" else 60.0) + (gain if point["on"] != "none" else 0.0)

    cells = finished(grid_of(*FIVE, *PAIRS), score, noise=0.1, seed=1)
    verdicts = {
        dict(result.contrast.of)["domain"]: result.difference
        for result in cells.contrasts
        if result.difference is not None
    }
    assert verdicts["letters"].mean == pytest.approx(-5, abs=0.3)
    assert verdicts["americas"].mean == pytest.approx(-20, abs=0.3)
    assert {domain: each.verdict for domain, each in verdicts.items()} == {
        "letters": "lower",
        "oup": "equivalent",
        "americas": "lower",
    }
    answer = STUDY.answer(cells)
    assert answer is not None and answer.verdict == "lower"
    domain, language = answer.headline.split("; ")[:2]
    assert "shift of domain, on qqp, mean of 2 test sets: -2." in domain
    assert domain.endswith(", smaller drop with the intermediate task")
    assert "shift of language, on qqp, mean of 1 test set: -" in language
    assert float(language.split(": ")[1].split(" ")[0]) == pytest.approx(-20, abs=0.3)
    assert "mean of 3" not in answer.headline, "domains and languages have no mean together"
    assert answer.headline.endswith("after Holm's correction 2 of 3 remain significant")
    changes = next(table for table in STUDY.tables(cells) if table.name == "changes-lora")
    letters = next(line for line in changes.lines if "letters" in line.label)
    # 20 of 80 points are lost without, 15 of 84 with it
    assert letters.entries[1].value == pytest.approx(100 * (15 / 84 - 20 / 80), abs=0.4)
    oup = next(line for line in changes.lines if "oup" in line.label)
    assert oup.entries[0].verdict == "equivalent" != oup.entries[1].verdict, "it has no margin"
    assert changes.lines[-1].label == "americasnli americas, English to quy, qqp"
    dumbbell, forest = STUDY.figures(cells)
    assert [series.name for series in dumbbell.series] == ["in-domain", "out-of-domain"]
    assert [point.verdict for point in forest.series[0].points] == ["lower", "equivalent", "lower"]


def test_an_answer_weighs_tasks_alike_and_keeps_the_controls_apart() -> None:
    """On qqp the drop changes by -6 and -2 in two domains of SQuAD and by -1 in one of MNLI: tasks
    weighted alike, by -2.5. On self it changes by -10, in new rows of SQuAD's own domain by -30.
    """
    changes = {"nyt": -6.0, "reddit": -2.0, "letters": -1.0, "new_wiki": -30.0}
    grid = grid_of(*FIVE, "task=squadshifts,mnli_genres", "on=none,qqp,self",
                   f"domain={','.join(changes)}")  # fmt: skip

    def score(point: dict[str, str]) -> float:
        change = {"none": 0.0, "qqp": changes[point["domain"]], "self": -10.0}[point["on"]]
        return 80.0 if point["side"] == "in" else 40.0 - change

    cells = finished(grid, score, noise=0.05, seed=3)
    answer = STUDY.answer(cells)
    assert answer is not None and answer.verdict == "lower"
    means = [part.split(" points")[0] for part in answer.headline.split("; ")[:2]]
    (domain, found), (control, of_self) = (part.rsplit(": ", 1) for part in means)
    assert domain == (
        "change of the drop under a shift of domain, on qqp, mean of 2 tasks (3 test sets), each"
        " task weighted alike"
    )
    assert float(found) == pytest.approx(-2.5, abs=0.15)
    assert control.startswith("control under a shift of domain, on self, mean of 2 tasks (3 test")
    assert float(of_self) == pytest.approx(-10, abs=0.15)
    table = next(table for table in STUDY.tables(cells) if table.name == "changes-lora")
    labels = [line.label for line in table.lines]
    assert labels[-1] == "squadshifts new_wiki (same domain, new sample), en, self"


def test_points_with_the_targets_own_train_rows_are_left_out() -> None:
    """SQuAD 2.0 has SQuAD 1.1's questions; the target itself, trained twice, is a control."""
    grid = grid_of("task=squadshifts,mnli_genres", "on=none,mnli,squad2,self", "domain=nyt,letters")
    parents: dict[str, set[str]] = {}
    for cell in grid.cells:
        point = dict(cell.point)
        parents.setdefault(point["task"], set()).add(point["on"])
    assert parents == {
        "squadshifts": {"none", "mnli", "self"},
        "mnli_genres": {"none", "squad2", "self"},
    }


def test_without_an_effect_few_changes_are_found() -> None:
    """The parent gains as much outside the domain as in it. At 95 % some 5 % of 120 intervals miss
    0: 16 is four standard deviations more.
    """
    grid = grid_of(*FIVE, *PAIRS)
    wrong = 0
    for seed in range(40):
        results = finished(grid, lambda point: 50.0 + len(point["on"]), 1.0, seed).contrasts
        verdicts = [result.difference.verdict for result in results if result.difference]
        wrong += sum(verdict in ("higher", "lower") for verdict in verdicts)
        assert len(verdicts) == 3
    assert wrong <= 16


def test_both_sides_are_scores_of_one_training_in_one_language() -> None:
    grid = grid_of("task=squadshifts,masakhaner,americasnli", "language=en,sw,quy", "on=none,mnli",
                   "domain=nyt,news,americas")  # fmt: skip
    sides = {
        (dict(cell.point)["task"], dict(cell.point)["side"]): (
            cell.task,
            cell.split,
            cell.languages,
        )
        for cell in grid.cells
    }
    assert sides == {
        ("squadshifts", "in"): ("xquad", "validation", "en"),
        ("squadshifts", "out"): ("squadshifts", "nyt", "en"),
        ("masakhaner", "in"): ("panx", "validation", "sw"),
        ("masakhaner", "out"): ("masakhaner", "news", "sw"),
        ("americasnli", "in"): ("xnli", "validation", "en"),
        ("americasnli", "out"): ("americasnli", "americas", "quy"),
    }
    # XNLI is trained on MNLI's rows: MNLI is no intermediate task of it
    with_mnli = {dict(cell.point)["task"] for cell in grid.cells if cell.chain}
    assert with_mnli == {"squadshifts", "masakhaner"}
    plans = CellPlans(grid_of())
    trained = {
        cell.point[0][1]: plans.plan(plans.request(cell, 1)).target.id  # type: ignore[union-attr]
        for cell in plans.cells
        if not cell.chain and dict(cell.point)["side"] == "in"
    }
    for cell in plans.cells:
        if not cell.chain and dict(cell.point)["side"] == "out":
            target = plans.plan(plans.request(cell, 1)).target
            assert target is not None and target.id == trained[cell.point[0][1]]


@pytest.mark.parametrize(
    ("set_", "complaint"),
    [
        ("task=squadshifts,xquad", "'xquad': is no task with rows of other domains"),
        ("domain=nyt,new-wiki", "did you mean 'new_wiki'"),
        ("domain=nyt,news", "domain: news: no cell has it here"),
        ("language=en,xx", "no task has rows of other domains in this language"),
        ("genres=email+reviews+blog", "genres: no task has train rows of 'blog'; did you mean"),
        ("side=in", "side: takes both, in and out"),
        ("side=in,out,outside", "takes in and out"),
        ("on=none,squad1", "on: squad1: no cell has it here"),
        ("languages=en", "the language of its axis"),
    ],
)
def test_a_wrong_axis_costs_one_line(set_: str, complaint: str) -> None:
    with pytest.raises(RequestError) as raised:
        given = dict(text.split("=", 1) for text in ("task=squadshifts", "domain=nyt", set_))
        grid_of(*(f"{key}={value}" for key, value in given.items()))
    assert complaint in str(raised.value) and "\n" not in str(raised.value)


def test_all_of_the_smoke_file(tmp_path: Path) -> None:
    """Every number is worked out again from the metrics of the runs."""
    payload = carry_out_whole("shift-smoke", tmp_path)
    scores: dict[tuple[str, str, str], dict[int, float]] = {}
    exact: dict[tuple[str, str], dict[int, float]] = {}
    for row in payload["rows"]:
        point = row["point"]
        for run in row["runs"]:
            metrics = read_json(tmp_path / run["run"] / "metrics.json")
            key = (point["task"], point["on"], point["side"])
            scores.setdefault(key, {})[run["seed"]] = metrics["score"]
            if point["task"] == "squadshifts":
                (entry,) = metrics["tasks"].values()
                by_seed = exact.setdefault(key[1:], {})
                by_seed[run["seed"]] = entry["languages"]["en"]["exact_match"]
    assert len(scores) == 12
    for contrast in payload["contrasts"]:
        task = contrast["of"]["task"]

        def drop(
            on: str, by: dict[Any, dict[int, float]] = scores, of: tuple[str, ...] = (task,)
        ) -> dict[int, float]:
            inside, outside = by[(*of, on, "in")], by[(*of, on, "out")]
            return {seed: inside[seed] - outside[seed] for seed in inside}

        difference = paired(drop("qqp"), drop("none"), margin=payload["margin"])
        assert difference is not None
        assert contrast["mean"] == pytest.approx(difference.mean)
        assert contrast["verdict"] == difference.verdict and contrast["p_holm"] is not None
        # both sets of items: 18 and 8 questions, 12 pairs of each, 20 of 32 sentences and 8
        items = contrast["items"]
        expected = {"squadshifts": 18 + 8, "mnli_genres": 12 + 12, "ewt": 20 + 8}
        assert items["items"] == expected[task]
        assert items["mean"] == pytest.approx(contrast["mean"])
        assert items["low"] <= items["mean"] + 1e-9 and items["mean"] <= items["high"] + 1e-9
        if task == "squadshifts":
            table = next(each for each in payload["tables"] if each["name"] == "changes-lora")
            column = table["columns"].index("exact_match")
            entry = next(line for line in table["lines"] if task in line["label"])["entries"]
            other = paired(drop("qqp", exact, ()), drop("none", exact, ()))
            assert other is not None and entry[column]["value"] == pytest.approx(other.mean)
    assert len(payload["contrasts"]) == 3
    assert [figure["kind"] for figure in payload["figures"]] == ["dumbbell", "forest"]
    answer, lines = command.answer_of("shift", str(tmp_path))
    assert answer["answer"]["verdict"] and len(lines) <= 10
    # a training for each stack and seed, and one for each parent, whatever it is scored on
    trained = [path for path in tmp_path.glob("*/*/module") if path.is_dir()]
    assert len(trained) == 2 * (2 + 2 + 2 + 1)


def digests(source: Source, name: str) -> tuple[set[str], set[str], set[str]]:
    """`row_digest` of the rows that a task's training reads, of the in-domain rows that are
    reported, and of the reported rows of all its domains.
    """
    task = tasks.load(name)
    trainer, home = tasks.load(task.train_from or name), tasks.load(task.in_domain_task)
    files = locate_training(source, trainer, "clean", tasks.load)
    rows = read_training(Reader(), trainer, files, tasks.load)
    trained = {row_digest(row) for part in (rows.train, rows.select) for row in part.examples}
    inside = reported(source, home, next(iter(home.report)), task.all_languages)
    outside = [reported(source, task, domain, task.all_languages) for domain in task.domains]
    return trained, inside, set().union(*outside)


def reported(source: Source, task: Task, split: str, languages: Sequence[str]) -> set[str]:
    files, _ = locate_report(source, task, split, languages)
    parts, _ = read_report(Reader(), task, files)
    return {row_digest(row) for part in parts.values() for row in part.examples}


def test_the_genre_that_is_scored_is_left_out_of_the_training() -> None:
    """Of the target's own, and of the one before it where it is trained twice; the rows of its
    domain are those of the genres that are left.
    """
    grid = grid_of("task=ewt,mnli_genres,gum", "domain=reviews,fiction,letters,bio",
                   "on=none,self,udpos,mnli")  # fmt: skip
    shown = {}
    for cell in grid.cells:
        point = dict(cell.point)
        key = (point["task"], point["domain"], point["on"], point["side"])
        shown[key] = (dict(cell.overrides).get("train.genres"), cell.split)
        assert dict(cell.parent_overrides) == (
            {"1:train.genres": dict(cell.overrides)["train.genres"]}
            if cell.overrides and point["on"] == "self"
            else {}
        )
    ewt = ("weblog", "newsgroup", "email", "answers")
    assert shown["ewt", "reviews", "none", "in"] == (ewt, "weblog+newsgroup+email+answers")
    assert shown["ewt", "reviews", "self", "out"] == (ewt, "reviews")
    mnli = ("government", "slate", "telephone", "travel", "captions")
    assert shown["mnli_genres", "fiction", "none", "out"] == (mnli, "fiction")
    assert shown["mnli_genres", "letters", "none", "in"] == (None, "matched")
    assert shown["gum", "bio", "none", "in"] == (None, "web")
    # XTREME's English rows hold the treebank
    assert {key[2] for key in shown if key[0] in ("ewt", "gum")} == {"none", "self", "mnli"}

    chosen = ("task=mnli_genres", "domain=letters", "on=none")
    for genres, split in (("captions+fiction", "captions+fiction"), ("all", "matched")):
        grid = grid_of(*chosen, f"genres={genres}")
        assert [cell.split for cell in grid.cells] == [split, "letters"]
    for genres in ("captions+fiction", "all"):  # that the training is on
        with pytest.raises(RequestError, match=r"domain: fiction: no cell has it here$"):
            grid_of("task=mnli_genres", "domain=letters,fiction", "on=none", f"genres={genres}")


@pytest.mark.parametrize("name", ["squadshifts", "mnli_genres", "gum", "ewt", "masakhaner", "m2qa"])
def test_no_reported_row_is_trained_or_selected_on(name: str) -> None:
    trained, inside, outside = digests(open_source("embedded"), name)
    assert len(trained) > 60 and inside and outside and not trained & (inside | outside)


@pytest.mark.parametrize("name", ["mnli_genres", "masakhaner", "americasnli"])
def test_no_reported_row_of_the_mirror_is_trained_or_selected_on(name: str, mirror: Path) -> None:
    """But three of WikiANN's Swahili rows: names alone, which its English train rows have too."""
    trained, inside, outside = digests(open_source(str(mirror)), name)
    assert len(trained) > 10_000 and len(outside) > 500 and not trained & outside
    assert len(trained & inside) == (3 if name == "masakhaner" else 0)


# of class 0 and of class 1. There the words of the one place come with the other class, and others
# beside them tell which: who has only seen the one place is wrong in the other, whatever was drawn
TEXTS = {"here": ("apple ", "night "), "there": ("night chair chair ", "apple green green ")}


def rows_of(count: int, *places: str) -> list[tuple[str, int]]:
    """(a text, its class 0 or 1, which its words tell)."""
    texts = [text for place in places for text in TEXTS[place]]
    return [(texts[number % len(texts)] * 3, number % 2) for number in range(count)]


def said(number: int) -> str:
    """The other text of a row: of two rows with one number, one of each class, so that it does not
    tell the class.
    """
    return f"said {number // 2}"


def nli(rows: list[tuple[str, int]], genre: str, start: int) -> dict[str, list[Any]]:
    return {
        "pairID": [f"{genre}-{start + number}" for number in range(len(rows))],
        "premise": [text for text, _ in rows],
        "hypothesis": [said(start + number) for number in range(len(rows))],
        "label": [2 * label for _, label in rows],
        "genre": [genre] * len(rows),
    }


def test_a_parent_that_must_keep_the_score_up_is_found_by_real_trainings(tmp_path: Path) -> None:
    """The target's rows say with two words what rows of the other genre say with two others; the
    intermediate task's rows have all four, each with its class.
    """
    files = {
        f"nyu-mll/multi_nli/default/{split}-00000-of-00001.parquet": nli(rows, genre, start)
        for split, genre, start, rows in (
            ("train", "fiction", 0, rows_of(160, "here")),
            ("validation_matched", "fiction", 1000, rows_of(40, "here")),
            ("validation_mismatched", "letters", 2000, rows_of(40, "there")),
        )
    }
    mirror_of(tmp_path / "rows", files, {"label": ["entailment", "neutral", "contradiction"]})
    parents: dict[str, Any] = {}
    for split, start, count in (("train", 0, 160), ("validation", 500, 40)):
        rows = rows_of(count, "here", "there")
        parents[f"nyu-mll/glue/qqp/{split}-00000-of-00001.parquet"] = {
            "question1": [text for text, _ in rows],
            "question2": [said(start + number) for number in range(count)],
            "label": [label for _, label in rows],
        }
    mirror_of(tmp_path / "rows", parents)
    payload = carry_out_whole(
        "shift-smoke",
        tmp_path / "runs",
        f"data={tmp_path / 'rows'}",
        "task=mnli_genres",
        "domain=letters",
        "seeds=1,2,3",
        "eval.max_examples=0",
        *(
            f"{table}.train.{setting}"
            for table in ("set", "set-parents")
            for setting in ("max_steps=40", "eval_every=40", "batch_size=16", "lr=0.01")
        ),
    )
    (contrast,) = payload["contrasts"]
    assert contrast["verdict"] == contrast["items"]["verdict"] == "lower"
    assert contrast["mean"] < -25


def test_the_file_for_a_mirror_can_be_carry_out_whole(mirror: Path, tmp_path: Path) -> None:
    file = read_study_file("shift-mini", studies.names(), AXES, (f"data={mirror}",))
    plans = CellPlans(make_grid(STUDY, file, runs=str(tmp_path)))
    tasks_scored = {cell.task for cell in plans.cells}
    assert tasks_scored == {"mnli_genres", "masakhaner", "panx", "americasnli", "xnli"}
    assert len(STUDY.contrasts(plans.cells)) == 7 and not plans.left_out
