"""Rows of a comparison and what differs between them, worked out without a run."""

from __future__ import annotations

from typing import Any

import pytest

from adapters_xtl.grid import summary
from adapters_xtl.grid.cells import Cell, Variant


def scored_row(task: str, method: str, bits: int, *scores: float) -> dict[str, Any]:
    seeds = {str(seed): score for seed, score in enumerate(scores)}
    gaps = dict.fromkeys(("gap_to_full", "gain_over_no_parents", "gap_to_unquantised"))
    score = {"mean": sum(scores) / len(scores), "seeds": seeds}
    return {"task": task, "method": method, "bits": bits, "score": score, **gaps}


def test_rows_are_told_apart_by_what_was_asked() -> None:
    """A budget may give tasks, and a task with parents, other bits: they still are one method,
    asked for as one.
    """
    rows = (
        ("xquad", "full", "auto", (), scored_row("xquad", "full", 32, 50, 52)),
        ("xquad", "lora", "auto", (), scored_row("xquad", "lora", 8, 40, 44)),
        ("xquad", "lora", "auto", ("mnli",), scored_row("xquad", "lora", 4, 41, 46)),
        ("xquad", "lora", "32", (), scored_row("xquad", "lora", 32, 10, 10)),
        ("xnli", "full", "auto", (), scored_row("xnli", "full", 32, 70, 70)),
        ("xnli", "lora", "auto", (), scored_row("xnli", "lora", 32, 60, 60)),
        ("xnli", "lora", "32", (), scored_row("xnli", "lora", 32, 20, 20)),
        ("bucc", "lora", "32", ("mnli",), scored_row("bucc", "none", 32, 5)),
    )
    cells = {
        Cell(task, Variant(method, bits), chain): row for task, method, bits, chain, row in rows
    }
    auto = Variant("lora", "auto")
    summary.differences(cells, 0.95)
    stacked, alone = cells[Cell("xquad", auto, ("mnli",))], cells[Cell("xquad", auto, ())]
    assert stacked["gain_over_no_parents"]["mean"] == pytest.approx(1.5)
    assert alone["gap_to_full"]["mean"] == pytest.approx(-9)
    averages = summary.averages(cells, ["xquad", "xnli"], 0.95)
    assert [(each["method"], each["bits"], each["mean"]["mean"]) for each in averages] == [
        ("full", 32, 60.5),
        ("lora", None, 51),
        ("lora", 32, 15),
    ]
    assert averages[1]["mean"]["gap_to_full"]["mean"] == pytest.approx(-9.5)


def test_quantised_rows_have_their_gap_to_the_same_at_more_bits() -> None:
    rows = (
        ("lora", 32, (), (9, 9)),
        ("lora", 16, (), (50, 52)),
        ("lora", 8, (), (49, 52)),
        ("lora", 4, (), (48, 46)),
        ("lora", 8, ("mnli",), (60, 60)),
        ("bottleneck", 16, (), (70, 70)),
    )
    cells = {
        Cell("panx", Variant(method, str(bits)), chain): scored_row("panx", method, bits, *by)
        for method, bits, chain, by in rows
    }
    summary.differences(cells, 0.95)
    gaps = {
        (cell.variant.method, cell.variant.bits, cell.chain): row["gap_to_unquantised"]
        for cell, row in cells.items()
        if row["gap_to_unquantised"]
    }
    assert {key: (gap["bits"], gap["mean"], gap["verdict"]) for key, gap in gaps.items()} == {
        ("lora", "8", ()): (16, -0.5, "inconclusive"),
        ("lora", "4", ()): (16, -4, "inconclusive"),
    }


def test_cells_that_differ_in_their_lowest_layer_alone_have_averages_of_their_own() -> None:
    lora = Variant("lora", "32")
    cells = {
        Cell(task, lora, (), from_layer=layer): scored_row(task, "lora", 32, score)
        for task, layer, score in (
            *(("panx", 0, 60), ("pawsx", 0, 80)),
            *(("panx", 6, 50), ("pawsx", 6, 60)),
        )
    }
    averages = summary.averages(cells, ["panx", "pawsx"], 0.95)
    assert [average["mean"]["mean"] for average in averages] == [70, 55]
