"""Means and differences of cells, where seeds change them and where none does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import studies
from adapters_xtl.grid.cells import Axis, Cell, Grid, Variant
from adapters_xtl.grid.finished_cells import FinishedCell, FinishedCells
from adapters_xtl.grid.study import Contrast
from adapters_xtl.grid.summary import Scored
from adapters_xtl.runs.outcome import Outcome
from adapters_xtl.runs.records import Metrics
from adapters_xtl.runs.request import Request

SEEDS = (1, 2, 3)
TASKS = ("bucc", "tatoeba")


def point(task: str, on: str) -> dict[str, str]:
    return {"task": task, "on": on, "method": "lora"}


def finished_cells(scores: Mapping[tuple[str, str], tuple[float, ...]]) -> FinishedCells:
    """Cells by (task, on); one with a single score is that of a finished module."""
    cells: list[FinishedCell] = []
    for (task, on), values in scores.items():
        chain = () if on == "none" else (on,)
        single = len(values) == 1
        place = tuple(point(task, on).items())
        cell = Cell(task, Variant("lora"), chain, place, finished_module=single)
        plan: Any = None  # no score depends on it
        runs = [
            Scored(seed, plan, Outcome("", Path(), True, 0.0, Metrics({}, value, None)))
            for seed, value in zip(SEEDS, values, strict=False)
        ]
        cells.append(FinishedCell(cell, 1 if single else len(SEEDS), runs))
    parents = tuple(dict.fromkeys(on for _, on in scores))
    axes = (Axis("task", (*TASKS, "xnli")), Axis("on", parents), Axis("method", ("lora",)))
    grid = Grid("transfer", axes, tuple(cell.cell for cell in cells), SEEDS, Request(""))
    contrasts = [
        Contrast(f"{on}, {task}", point(task, on), point(task, "none"))
        for task, on in scores
        if on != "none"
    ]
    return FinishedCells(grid, cells, contrasts, margin=0.5)


def test_one_measurement_is_no_interval() -> None:
    """Neither of the bare backbone nor of a module that was trained before: no seed changes
    them.
    """
    cells = finished_cells(
        {
            **{("bucc", "none"): (10.0,), ("tatoeba", "none"): (20.0,)},
            **{("bucc", "run"): (12.0,), ("tatoeba", "run"): (24.0,)},
        }
    )
    of, none = ([point(task, on) for task in TASKS] for on in ("run", "none"))
    mean, difference = cells.mean_score(none), cells.mean_difference(of, none)
    assert (mean.value, mean.low, mean.high) == (15.0, None, None)
    assert (difference.value, difference.low, difference.verdict) == (3.0, None, "")
    entry = cells.difference(of[0], none[0])
    assert (entry.value, entry.low, entry.verdict, entry.holm) == (2.0, None, "", "")
    assert entry.note == difference.note == "no seed changes it"


def test_a_trained_module_against_the_bare_backbone_has_the_spread_of_its_seeds() -> None:
    cells = finished_cells({("bucc", "none"): (10.0,), ("bucc", "mnli"): (11.0, 12.0, 13.0)})
    entry = cells.difference(point("bucc", "mnli"), point("bucc", "none"))
    assert entry.value == pytest.approx(2.0)
    # t of 2 degrees of freedom, 0.975: 4.3027; standard error 1/√3
    assert entry.low == pytest.approx(2.0 - 4.3027 / 3**0.5, abs=1e-3)


def test_tasks_that_were_left_out_are_no_column() -> None:
    """XNLI is a value of the axis of which no cell is left."""
    cells = finished_cells({("bucc", "none"): (10.0,), ("bucc", "mnli"): (11.0, 12.0, 13.0)})
    table = studies.load("transfer").tables(cells)[0]
    assert table.columns == ("bucc",)


@pytest.mark.parametrize(("gains", "named"), [((1.0, 2.0), ""), ((-1.0, 2.0), "mnli, bucc: -1.00")])
def test_an_exception_goes_the_other_way(gains: tuple[float, float], named: str) -> None:
    cells = finished_cells(
        {
            **{(task, "none"): (10.0, 10.0, 10.0) for task in TASKS},
            **{
                (task, "mnli"): tuple(10.0 + gain for _ in SEEDS)
                for task, gain in zip(TASKS, gains, strict=True)
            },
        }
    )
    answer = cells.summary_of_contrasts(())
    assert answer is not None and answer.exception.startswith(named)
    assert bool(answer.exception) == bool(named)


def test_an_answer_counts_what_is_missing_and_what_no_interval_tells() -> None:
    """Of three contrasts one has three seeds, one a single one, and one none."""
    cells = finished_cells(
        {
            **{("bucc", "none"): (10.0, 10.0, 10.0), ("tatoeba", "none"): (10.0, 10.0, 10.0)},
            **{("bucc", "mnli"): (14.0, 15.0, 16.0), ("tatoeba", "mnli"): ()},
            ("bucc", "run"): (12.0, 12.0),
        }
    )
    del cells.at(point("bucc", "run")).runs[1]  # type: ignore[union-attr]
    answer = cells.summary_of_contrasts(())
    assert answer is not None
    assert answer.headline.startswith("mean of 2 of 3 contrasts: +3.50 points; 1 higher; 1 of one")
    assert answer.verdict == "mixed"
