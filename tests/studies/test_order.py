"""The study `order`: equal steps in every condition, seeds of their own, and planted effects."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import studies, tasks
from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import RequestError
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.cells import Cell, Grid
from adapters_xtl.grid.finished_cells import FinishedCell, FinishedCells
from adapters_xtl.grid.study_file import make_grid, read_study_file
from adapters_xtl.grid.summary import Scored
from adapters_xtl.pages import figures, page
from adapters_xtl.runs.outcome import Outcome
from adapters_xtl.runs.records import Metrics
from adapters_xtl.studies._order_conditions import CONDITIONS, HALVES
from tests.data.mirrors import MNLI, mirror_of
from tests.studies.carry_out import carry_out
from tests.studies.test_study_file import AXES

STUDY = studies.load("order")
LINES = """
study = "order"
backbone = "tiny"
data = "embedded"
device = "cpu"
[axes]
task = ["pawsx", "tatoeba"]
pair = ["mnli+csqa"]
steps = 8
"""


def grid_of(folder: Path, *set_: str, lines: str = LINES) -> Grid:
    path = folder / "order.toml"
    path.write_text(lines, encoding="utf-8")
    file = read_study_file(str(path), studies.names(), AXES, set_)
    return make_grid(STUDY, file, runs=str(folder / "runs"))


# ---------------------------------------------------------------------------- cells


def test_every_condition_takes_as_many_steps(tmp_path: Path) -> None:
    plans = CellPlans(grid_of(tmp_path, "condition=A>B,B>A,multi,A,B,A>A,B>B,random>B,sum,none"))
    assert plans.grid.seeds == (1, 2, 3, 4, 5)
    targets: dict[str, set[tuple[Any, ...]]] = {}
    for cell in plans.cells:
        point = dict(cell.point)
        plan = plans.plan(plans.request(cell, 1))
        parents = [
            module
            for module in plan.modules
            if module.run.tasks and not (cell.trains and module is plan.target)
        ]
        steps = [module.run.hyper.max_steps for module in parents]
        expected = {"none": 0, "A, half of the steps": 4, "B, half of the steps": 4}.get(
            point["condition"], 8
        )
        if point["scored"] == "target" or point["condition"] in (
            "A, half of the steps",
            "B, half of the steps",
        ):
            assert sum(steps) == expected, (cell, steps)
        for module in parents:  # the last step's weights, whatever the select rows say
            hyper = module.run.hyper
            assert (hyper.eval_every, hyper.patience) == (hyper.max_steps, 0)
            if module.task == "multi":
                assert set(module.members) == {"mnli", "csqa"} and hyper.cap == 1
        if cell.task == "pawsx":
            assert plan.target is not None
            hyper = plan.target.run.hyper
            targets.setdefault(point["compose"], set()).add(
                (hyper.max_steps, hyper.epochs, hyper.lr, hyper.patience)
            )
    assert set(targets) == {"init", "stack"}
    assert all(
        len(settings) == 1 and next(iter(settings))[-1] == 0 for settings in targets.values()
    )


def test_equal_trainings_are_one_run_and_others_draw_anew(tmp_path: Path) -> None:
    plans = CellPlans(grid_of(tmp_path, "compose=init", "task=tatoeba"))
    chains = {}
    for cell in plans.cells:
        point = dict(cell.point)
        modules = plans.plan(plans.request(cell, 2)).modules
        chains[point["task"], point["condition"], point["scored"]] = modules
    first = chains["tatoeba", "A>B", "target"][0]
    assert chains["tatoeba", "A>A", "target"][0].id == first.id
    assert chains["mnli", "A, half of the steps", "forgetting"][0].id == first.id
    assert [module.id for module in chains["mnli", "A>B", "forgetting"]] == [
        module.id for module in chains["tatoeba", "A>B", "target"]
    ], "what the own head scores is the very chain whose target is reported"
    seeds = [
        module.run.seed
        for condition in ("A>B", "B>A")
        for module in chains["tatoeba", condition, "target"]
    ]
    assert len(set(seeds)) == 4 and 2 not in seeds


def test_a_method_has_the_conditions_that_it_can(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "method=full,lora,bottleneck", "task=tatoeba")
    kept: dict[str, set[tuple[str, str]]] = {}
    for cell in grid.cells:
        point = dict(cell.point)
        if point["scored"] == "target":
            kept.setdefault(point["method"], set()).add((point["condition"], point["compose"]))
    assert ("A>B", "init") in kept["full"] and ("A>B", "stack") not in kept["full"]
    assert not {condition for condition, _ in kept["full"]} & {"random>B", "sum"}
    assert ("sum", "stack") in kept["lora"] and ("sum", "init") not in kept["lora"]
    assert ("random>B", "stack") in kept["bottleneck"]
    assert "sum" not in {condition for condition, _ in kept["bottleneck"]}


@pytest.mark.parametrize(
    ("set_", "complaint"),
    [
        ("steps=7", "even number"),
        ("steps=few", "even number"),
        ("pair=mnli", "takes two tasks"),
        ("pair=mnli,csqa", "joined by +"),
        ("pair=panx+csqq", "did you mean 'csqa'"),
        ("pair=panx+panx", "two different tasks"),
        ("pair=mnli+csqq", "did you mean 'csqa'"),
        ("pair=mnli+mnli", "two different tasks"),
        ("condition=A>C", "[axes] condition"),
        ("condition=sum compose=init", "no cell is left"),
        ("compose=fuse", "[axes] compose"),
        ("pair=mnli+squad1 task=xquad", "xquad is trained on rows of squad1"),
        ("task=xnli", "xnli is trained on rows of mnli, a task of the pair mnli+csqa"),
        ("pair=csqa+squad2 task=xquad", "xquad is trained on rows of squad2"),
        ("set-parents.train.max_steps=9", "the study 'order' decides it"),
        ("set-parents.1.train.patience=9", "the study 'order' decides it"),
        ("tasks.mnli.train.max_steps=9", "tasks.mnli.train.max_steps"),
        ("train.patience=9", "set train.patience: the study 'order' decides it"),
    ],
)
def test_what_would_make_conditions_unequal_is_refused(
    set_: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError) as refused:
        grid_of(tmp_path, *set_.split())
    assert complaint in str(refused.value) and "\n" not in str(refused.value)


# ---------------------------------------------------------------------------- planted numbers


def world(grid: Grid, scores: Mapping[Cell, list[float]]) -> FinishedCells:
    """The cells of a grid with these scores, one a seed."""
    plan: Any = None  # no table reads it
    cells = [
        FinishedCell(
            cell,
            len(grid.seeds),
            [
                Scored(seed, plan, Outcome("", Path(), True, 0.0, Metrics({}, score, None)))
                for seed, score in zip(grid.seeds, scores[cell], strict=True)
            ],
        )
        for cell in grid.cells
    ]
    return FinishedCells(grid, cells, STUDY.contrasts(grid.cells), STUDY.margin)


def drawn(grid: Grid, seed: int, effects: Mapping[str, float], spread: float) -> FinishedCells:
    """A world whose scores are normal around 60 plus a condition's effect."""
    rng = random.Random(seed)
    return world(
        grid,
        {
            cell: [
                rng.gauss(60 + effects.get(dict(cell.point)["condition"], 0.0), spread)
                for _ in grid.seeds
            ]
            for cell in grid.cells
        },
    )


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    folder = tmp_path_factory.mktemp("order")
    return grid_of(folder, "compose=init", "task=panx,pawsx,tatoeba")


def test_a_planted_effect_is_found(grid: Grid) -> None:
    """B erases A: A comes to 60 after B, and to 66 where it is trained last or before B."""
    finished = drawn(
        grid, 1, {"B>A": 6.0, "A": 6.0, "A>A": 6.0, "A, half of the steps": 6.0}, spread=0.5
    )
    answer = STUDY.answer(finished)
    assert answer is not None and answer.verdict == "lower"
    orders, kept, of_other = answer.headline.split("; ")
    assert orders.startswith("(mnli → csqa) − (csqa → mnli) (init, lora), mean of 3 targets: -")
    assert orders.endswith(", lower for mnli first")
    assert float(kept.split("csqa is trained after it: ")[1].split(" ")[0]) == pytest.approx(
        -6, abs=1.5
    )
    assert kept.startswith("change of mnli's own score, with its own head") and "lower" in kept
    assert "change of csqa's own score" in of_other and "lower" not in of_other
    forest = next(figure for figure in STUDY.figures(finished) if figure.kind == "forest")
    (series,) = forest.series
    assert [point.x for point in series.points] == ["panx", "pawsx", "tatoeba", "mean"]
    for point in series.points:
        assert point.y == pytest.approx(-6, abs=1.5) and point.verdict == "lower"
    assert "<svg" in figures.svg(forest)
    after = [result for result in finished.contrasts if "with its own head" in result.contrast.name]
    by_task = {dict(result.contrast.of)["task"]: result for result in after}
    assert by_task["mnli"].difference is not None and by_task["mnli"].holm == "lower"
    assert by_task["csqa"].difference is not None
    assert by_task["csqa"].difference.verdict != "lower"
    tables = {table.name.split("-")[0]: table for table in STUDY.tables(finished)}
    assert "a one-sample t-test over 5 independent repetitions" in tables["differences"].notes[0]
    labels = [line.label for line in tables["differences"].lines]
    assert labels[0] == "(mnli → csqa) − (csqa → mnli)"
    assert set(tables) == {"scores", "differences", "forgetting"}


def test_equal_orders_are_equivalent_where_seeds_hardly_differ(grid: Grid) -> None:
    answer = STUDY.answer(drawn(grid, 2, {}, spread=0.05))
    assert answer is not None and answer.verdict == "equivalent" and not answer.exception


def test_a_world_without_an_effect_gives_few_false_ones(grid: Grid) -> None:
    """Of 20 worlds with 3 targets each, an interval of 95 % excludes 0 about 3 times, and Holm's
    correction leaves hardly any world with a difference.
    """
    excluded, worlds_with_one = 0, 0
    for seed in range(20):
        finished = drawn(grid, 100 + seed, {}, spread=2.0)
        orders = [
            result
            for result in finished.contrasts
            if (dict(result.contrast.of)["condition"], dict(result.contrast.against)["condition"])
            == ("A>B", "B>A")
        ]
        assert len(orders) == 3
        excluded += sum(
            result.difference is not None and result.difference.verdict in ("higher", "lower")
            for result in orders
        )
        worlds_with_one += any(result.holm in ("higher", "lower") for result in finished.contrasts)
    assert excluded <= 8, "binomial of 60 and 0.05: more than 8 in one of 300 times"
    assert worlds_with_one <= 4


def test_a_target_that_says_otherwise_is_the_exception(grid: Grid) -> None:
    rng = random.Random(3)
    effect = {"panx": 3.0, "pawsx": 3.0, "tatoeba": -2.0}
    scores = {
        cell: [
            rng.gauss(60, 0.3)
            + effect.get(cell.task, 0.0) * (dict(cell.point)["condition"] == "A>B")
            for _ in grid.seeds
        ]
        for cell in grid.cells
    }
    answer = STUDY.answer(world(grid, scores))
    assert answer is not None and answer.verdict == "higher"
    assert answer.exception.startswith("tatoeba (init, lora): -2.")
    assert ", lower for mnli first" in answer.exception


# ---------------------------------------------------------------------------- planted trainings

# The words of mnli and pawsx tell the label alike. Gradients of qqp are cut to nothing, so
# that it teaches nothing; what its training does is to decay the module that it goes on from.
PLANTED = """
study = "order"
backbone = "tiny"
device = "cpu"
seeds = [1, 2, 3]
languages = "de,fr"
[axes]
task = ["pawsx"]
pair = ["mnli+qqp"]
condition = ["A>B", "B>A"]
compose = ["init"]
method = ["lora"]
steps = 120
[set]
train.max_steps = 10
train.eval_every = 10
train.batch_size = 16
train.lr = 0.003
[set-parents]
train.batch_size = 16
[tasks.mnli]
train.lr = 0.005
[tasks.qqp]
train.clip = 1e-30
train.lr = 0.15
train.warmup = 0
"""
ERASING, IDLE = "tasks.qqp.train.weight_decay=1.0", "tasks.qqp.train.weight_decay=0.0"
WORDS_OF = (("apple", "bread", "cheese", "lemon"), ("seven", "eight", "twelve", "hundred"))


def word_rows(second: str, count: int) -> dict[str, list[Any]]:
    """Pairs of texts whose label is the kind of the first one's only word: food or number."""
    words = [WORDS_OF[number % 2][number // 2 % 4] for number in range(count)]
    return {
        "premise": [" ".join([word] * 6) for word in words],
        "hypothesis": [second] * count,
        "label": [number % 2 for number in range(count)],
    }


def write(folder: Path, task: str, file: str, second: str, count: int, names: Any) -> None:
    columns = dict(zip(names, word_rows(second, count).values(), strict=True))
    mirror_of(folder / "rows", {file: columns}, {"label": list(tasks.load(task).labels)})


@pytest.fixture(scope="module")
def world_of_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a mirror, `rows`, in which mnli teaches pawsx and qqp teaches nothing."""
    folder = tmp_path_factory.mktemp("words")
    files = {
        MNLI.format("train"): word_rows("trained", 240),
        MNLI.format("validation_matched"): word_rows("selected", 60),
    }
    mirror_of(folder / "rows", files, {"label": list(tasks.load("mnli").labels)})
    paws = "google-research-datasets/paws-x/{}/{}-00000-of-00001.parquet"
    columns = ("question1", "question2", "label")
    for split in ("train", "validation"):
        write(folder, "qqp", f"nyu-mll/glue/qqp/{split}-00000-of-00001.parquet", split, 60, columns)
    columns = ("sentence1", "sentence2", "label")
    write(folder, "pawsx", paws.format("en", "train"), "taught", 240, columns)
    for code in ("en", "de", "fr"):
        write(folder, "pawsx", paws.format(code, "validation"), "scored", 60, columns)
    (folder / "words.toml").write_text(PLANTED, encoding="utf-8")
    embedded.prepare(lambda text: None)
    return folder


def carried_out(folder: Path, *set_: str) -> dict[str, Any]:
    return carry_out(folder / "words.toml", folder / "runs", f"data={folder / 'rows'}", *set_)


def contrasts_of(record: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(task, condition) → the contrast of that condition."""
    return {
        (contrast["of"]["task"], contrast["of"]["condition"]): contrast
        for contrast in record["contrasts"]
    }


@pytest.mark.slow
def test_an_order_matters_where_the_second_task_erases_the_first(world_of_words: Path) -> None:
    record = carried_out(world_of_words, ERASING)
    contrasts = contrasts_of(record)
    order = contrasts["pawsx", "A>B"]
    assert order["verdict"] == record["answer"]["verdict"] == "lower" and order["mean"] < -10
    assert order["interval"]["high"] < 0 and len(order["seeds"]) == 3
    forgotten = contrasts["mnli", "A>B"]
    assert forgotten["mean"] < -5
    assert "when qqp is trained after it: -" in record["answer"]["headline"]
    html = page.render(page.of_studies([Path(record["path"])], runs=None))
    assert "(mnli → qqp) − (qqp → mnli)" in html and "lower" in html


@pytest.mark.slow
def test_no_order_is_found_where_the_second_task_does_nothing(world_of_words: Path) -> None:
    """Both orders train mnli alike, from other seeds."""
    record = carried_out(world_of_words, IDLE, "seeds=1,2")
    contrasts = contrasts_of(record)
    order = contrasts["pawsx", "A>B"]
    assert order["verdict"] in ("equivalent", "inconclusive") and len(order["seeds"]) == 2
    assert contrasts["mnli", "A>B"]["mean"] == 0, "the very network that mnli left"
    assert record["answer"]["verdict"] == order["verdict"] and not record["answer"]["exception"]


@pytest.mark.slow
def test_the_smoke_file_shows_every_condition(tmp_path: Path) -> None:
    embedded.prepare(lambda text: None)
    runs = tmp_path / "runs"
    record = carry_out(Path("order-smoke"), runs, "seeds=1", "compose=stack")
    assert {cell["state"] for cell in record["cells"]} == {"done"} and not record["failed"]
    conditions = {cell["point"]["condition"] for cell in record["cells"]}
    assert conditions == {*CONDITIONS, *HALVES.values()}
    kinds = {figure["kind"] for figure in record["figures"]}
    assert kinds == {"forest", "dumbbell"}
    names = {table["name"].split("-")[0] for table in record["tables"]}
    assert names == {"scores", "differences", "forgetting"}
    html = page.render(page.of_studies([Path(record["path"])], runs=None))
    assert html.count("<svg") >= 2 and "mnli and csqa at once" in html
