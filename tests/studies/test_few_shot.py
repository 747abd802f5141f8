"""The study few-shot: planted gains and a null on made-up scores, and all of it on a tiny random
XLM-R with sample rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import studies, tasks
from adapters_xtl.base.errors import RequestError
from adapters_xtl.data.locate import locate_report
from adapters_xtl.data.reading import Reader, read_report
from adapters_xtl.data.shot_pool import locate_shots
from adapters_xtl.data.shots import row_digest
from adapters_xtl.data.sources import Embedded
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.cells import Grid
from adapters_xtl.grid.finished_cells import FinishedCell, FinishedCells
from adapters_xtl.grid.study_file import make_grid, read_study_file
from adapters_xtl.grid.summary import Scored
from adapters_xtl.runs.outcome import Outcome
from adapters_xtl.runs.records import Metrics
from adapters_xtl.runs.stored_runs import read_run
from tests.studies.carry_out import carry_out_whole

STUDY = studies.load("few-shot")
AXES = {name: [axis.name for axis in studies.load(name).axes] for name in studies.names()}


def grid_of(*set_: str) -> Grid:
    file = read_study_file("few-shot-smoke", studies.names(), AXES, set_)
    return make_grid(STUDY, file, runs="runs")


def finished(grid: Grid, gain: Callable[[int], float], noise: float, seed: int) -> FinishedCells:
    """Made-up scores: 50 and `gain` of k with the intermediate task, plus noise by the run."""
    draw = random.Random(seed)
    plan: Any = None  # no score depends on it
    cells = []
    for cell in grid.cells:
        point = dict(cell.point)
        mean = 50.0 + (gain(int(point["k"])) if point["on"] != "none" else 0.0)
        runs = [
            Scored(
                number,
                plan,
                Outcome("", Path(), True, 0.0, Metrics({}, mean + draw.gauss(0, noise), None)),
            )
            for number in grid.seeds
        ]
        cells.append(FinishedCell(cell, len(runs), runs))
    return FinishedCells(grid, cells, STUDY.contrasts(grid.cells), STUDY.margin)


SIZES = ("k=0,1,4,16", "bucket=0,1,2,3", "seeds=1,2,3,4,5", "regime=sequential")


def test_a_planted_gain_that_vanishes_is_found_where_it_ends() -> None:
    """Eight points without shots, four with one a label, none from four on."""
    grid = grid_of(*SIZES)
    cells = finished(grid, lambda k: {0: 8.0, 1: 4.0}.get(k, 0.0), noise=0.3, seed=1)
    verdicts = {
        dict(result.contrast.of)["k"]: result.difference.verdict
        for result in cells.contrasts
        if result.difference is not None
    }
    assert (verdicts["0"], verdicts["1"]) == ("higher", "higher")
    assert "higher" not in (verdicts["4"], verdicts["16"])
    table = next(table for table in STUDY.tables(cells) if table.name.startswith("end-"))
    assert [line.entries[0].value for line in table.lines] == [4.0]
    answer = STUDY.answer(cells)
    assert answer is not None and "interval is not above 0: k=4" in answer.headline
    (figure,) = STUDY.figures(cells)
    assert [series.name for series in figure.series] == ["de, none", "de, mnli"]
    assert [point.x for point in figure.series[1].points] == [0, 1, 4, 16]


def test_without_an_effect_few_gains_are_found() -> None:
    """At 95 % some 5 % of 160 intervals miss 0: 20 is four standard deviations more."""
    grid = grid_of(*SIZES)
    wrong = 0
    for seed in range(40):
        results = finished(grid, lambda k: 0.0, noise=1.0, seed=seed).contrasts
        verdicts = [result.difference.verdict for result in results if result.difference]
        wrong += sum(verdict in ("higher", "lower") for verdict in verdicts)
        assert len(verdicts) == 4
    assert wrong <= 20


def test_without_shots_there_is_one_cell_for_all_buckets_and_regimes() -> None:
    grid = grid_of("k=0,1", "bucket=0,1", "regime=sequential,joint,target-only", "seeds=1")
    points = [dict(cell.point) for cell in grid.cells]
    assert [point["bucket"] for point in points if point["k"] == "0"] == ["-", "-"]
    assert len(points) == 2 * (1 + 2 * 3)
    only = grid_of("k=0,1", "bucket=0", "regime=target-only", "seeds=1")
    assert {dict(cell.point)["k"] for cell in only.cells} == {"1"}


def test_every_precision_that_is_asked_for_has_cells() -> None:
    cells = grid_of("bits=16,8").cells
    assert {cell.variant.bits for cell in cells} == {"16", "8"}
    assert len(cells) == 2 * len(grid_of("bits=16").cells)


def test_the_split_that_no_shot_is_drawn_from_is_scored(mirror: Path) -> None:
    """The same with shots and without. Of PAN-X the mirror has validation rows alone."""
    grid = grid_of("task=xnli,panx", "language=ar", "on=none", "k=0,4", "bucket=0", "seeds=1",
                   "regime=sequential", f"data={mirror}")  # fmt: skip
    plans = CellPlans(grid)
    splits = [plans.plan(plans.request(cell, 1)).evaluation.splits for cell in plans.cells]
    assert splits == [{"xnli": "test"}] * 2 + [{"panx": "validation-without-shots"}] * 2


@pytest.mark.parametrize(
    ("set_", "complaint"),
    [
        ("k=few", "takes whole numbers"),
        ("bucket=10", "takes 0 to 9"),
        ("regime=joined", "did you mean 'joint'"),
        ("language=xx", "no target language"),
        ("language=de,sw,th,te", "language: te: no cell has it here"),
        ("languages=de", "the language of its axis"),
    ],
)
def test_a_wrong_axis_costs_one_line(set_: str, complaint: str) -> None:
    with pytest.raises(RequestError) as raised:
        grid_of("task=xnli", set_)
    assert complaint in str(raised.value)


def test_every_condition_has_the_same_shots_and_no_reported_row_is_trained_on(
    tmp_path: Path,
) -> None:
    """All of the smoke file; the rows are compared by their digests over the whole store."""
    payload = carry_out_whole("few-shot-smoke", tmp_path)
    assert payload["answer"]["verdict"]
    shots: dict[tuple[int, int], set[tuple[str, ...]]] = {}
    trained = 0
    for path in tmp_path.glob("panx/*"):
        run = read_run(path)
        for record in run.provenance.data.shots.values():
            shots.setdefault((record.per_class, record.bucket), set()).add(record.rows)
            trained += run.spec.kind == "training"
    # two buckets; each is the same in two regimes, with two parents and two seeds
    assert {key: len(rows) for key, rows in shots.items()} == {(2, 0): 1, (2, 1): 1}
    assert trained == 2 * 2 * 2 * 2
    task, source = tasks.load("panx"), Embedded()
    files, _ = locate_report(source, task, "validation", ("de",))
    report, _ = read_report(Reader(), task, files)
    reported = {row_digest(row) for row in report["de"].examples}
    used = {digest for rows in shots.values() for each in rows for digest in each}
    assert len(used) in (2, 3, 4) and not used & reported
    assert locate_shots(source, task, "de").pool[0].digests not in [
        located.digests for located in files["de"]
    ]


def test_languages_that_the_source_lacks_are_left_out_and_named(
    mirror: Path, tmp_path: Path
) -> None:
    """The mirror has XCOPA's test rows in Indonesian, and none in Swahili."""
    names = ("task=xcopa", "language=id,sw", "seeds=1", "k=0,4", f"data={mirror}")
    file = read_study_file("few-shot-smoke", studies.names(), AXES, (*names, "skip-lacking=true"))
    plans = CellPlans(make_grid(STUDY, file, runs=str(tmp_path)))
    assert {dict(cell.point)["language"] for cell in plans.cells} == {"id"}
    assert list(plans.left_out) == ["xcopa in sw"]
