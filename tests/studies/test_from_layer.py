"""The study from-layer: made-up costs and scores, and all of it on a tiny random XLM-R."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import studies
from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import RequestError
from adapters_xtl.cli.commands import study as command
from adapters_xtl.grid.cells import Grid
from adapters_xtl.grid.finished_cells import FinishedCell, FinishedCells
from adapters_xtl.grid.results import Table
from adapters_xtl.grid.study_file import make_grid, read_study_file
from adapters_xtl.grid.summary import Scored
from adapters_xtl.runs.outcome import Outcome
from adapters_xtl.runs.records import Metrics, PrefixCost, SelectedStep, TrainingCost

STUDY = studies.load("from-layer")
AXES = {name: [axis.name for axis in studies.load(name).axes] for name in studies.names()}


def grid_of(*set_: str) -> Grid:
    file = read_study_file("from-layer-smoke", studies.names(), AXES, set_)
    return make_grid(STUDY, file, runs="runs")


def cost(layer: int, seed: int) -> TrainingCost:
    """Ten seconds less a layer; the first seed computed the states, in five seconds."""
    computed = 5.0 if seed == 1 else 0.0
    prefix = PrefixCost(layer, 10, layer * 2**20, 10, 10, computed) if layer else None
    return TrainingCost(
        seconds=100.0 - 10 * layer + (computed if layer else 0.0),
        examples=1,
        tokens=1,
        steps=1,
        measured_peak_bytes=(100 - layer) * 2**20,
        micro_batch=1,
        trainable_parameters=1,
        head_parameters=1,
        total_parameters=1,
        stored_bytes=2**20,
        select=SelectedStep(1, 50.0),
        prefix=prefix,
    )


def finished(grid: Grid) -> FinishedCells:
    """Scores of 60 less a point a layer."""
    plan: Any = None
    cells = []
    for cell in grid.cells:
        layer = int(dict(cell.point)["layer"])
        runs = [
            Scored(
                seed,
                plan,
                Outcome("", Path(), True, 0.0, Metrics({}, 60.0 - layer + seed, cost(layer, seed))),
            )
            for seed in grid.seeds
        ]
        cells.append(FinishedCell(cell, len(runs), runs))
    return FinishedCells(grid, cells, STUDY.contrasts(grid.cells), STUDY.margin)


def values(table: Table) -> list[list[float | None]]:
    return [[entry.value for entry in line.entries] for line in table.lines]


def test_scores_and_costs_stand_against_the_lowest_layer() -> None:
    cells = finished(grid_of("method=lora"))
    tables = {table.name: table for table in STUDY.tables(cells)}
    assert values(tables["scores"]) == [[61.5, 59.5, 58.5]]
    assert values(tables["differences"]) == [[-2.0, -3.0]]
    assert tables["differences"].columns == ("k=2", "k=3")
    assert values(tables["seconds"]) == [[100.0, 80.0, 70.0]], "without computing the states"
    assert values(tables["computing"]) == [[0.0, 5.0, 5.0]], "of the run that computed them"
    assert values(tables["memory"]) == [[100.0, 98.0, 97.0]]
    assert values(tables["states"]) == [[0.0, 2.0, 3.0]]
    score, seconds = STUDY.figures(cells)
    assert [point.x for point in score.series[0].points] == [0.0, 2.0, 3.0]
    assert [point.y for point in seconds.series[0].points] == [100.0, 80.0, 70.0]
    answer = STUDY.answer(cells)
    assert answer is not None
    assert "-2.00 points (lower) in 80% of the seconds at k=2" in answer.headline


def test_a_wrong_layer_costs_one_line() -> None:
    with pytest.raises(RequestError, match="layer: high"):
        grid_of("layer=high")


def test_the_smoke_file_shares_states_between_methods_and_seeds(tmp_path: Path) -> None:
    embedded.prepare(lambda text: None)
    payload, _ = command.study(
        "from-layer-smoke",
        set_=("device=cpu",),
        runs=str(tmp_path),
        engine="local",
        jobs=1,
        engine_options={},
        retry_failed=False,
        preview_only=False,
        out=None,
        report_to="",
        command="xtl study",
        notify=lambda text: None,
    )
    assert not payload["failed"] and payload["answer"]["verdict"]
    tables = {table["name"]: table for table in payload["tables"]}
    states = [[entry["value"] for entry in line["entries"]] for line in tables["states"]["lines"]]
    assert all(line[0] == 0 and line[1] == line[2] > 0 for line in states)
    assert states[0] == states[1], "both methods read the same texts"
