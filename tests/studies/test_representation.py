"""The study of representations, read off analyses whose numbers are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_xtl import studies
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.statistics import paired
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.cells import Axis, Cell, Grid, Variant
from adapters_xtl.grid.finished_cells import FinishedCell, FinishedCells
from adapters_xtl.grid.results import Entry, Table
from adapters_xtl.grid.study_file import make_grid, read_study_file
from adapters_xtl.grid.summary import Scored
from adapters_xtl.representation.record import (
    MODEL,
    RANDOM_WEIGHTS,
    EncoderResult,
    FittedDistance,
    RepresentationRecord,
)
from adapters_xtl.runs.outcome import Outcome
from adapters_xtl.runs.records import Metrics
from adapters_xtl.runs.request import Request

SEEDS = (1, 2, 3)
LAYERS = 4
FEATURES = ("language", "item", "random")
TOGETHER = "language+script+family"
STUDY = studies.load("representation")


def encoder(kind: str, language: float, seed: int = 0) -> EncoderResult:
    """An encoder in which language has this importance at layer 2, and half of it elsewhere."""
    layers = [language / 2, language / 2, language, language / 2, language / 2]
    samples = np.random.default_rng(0).normal(0, 0.2, size=100)
    importance = {
        "language": tuple(layers),
        "item": (8.0,) * 5,
        "random": (0.1,) * 5,
        TOGETHER: tuple(layers),
        "item+group": (9.0,) * 5,
    }
    fitted = FittedDistance(
        correlation=(50.0,) * 5,
        ceiling=(80.0,) * 5,
        importance=importance,
        weight={name: (33.3,) * 5 for name in FEATURES},
        shuffled_correlation=(1.0,) * 5,
        shuffled_importance={name: (0.2,) * 5 for name in importance},
        replicates={
            name: tuple(tuple((value + samples).tolist()) for value in values)
            for name, values in importance.items()
        },
    )
    numbers = (60.0, 61.0, 62.0, 63.0, 64.0)
    return EncoderResult(
        kind, seed, {"euclidean": fitted, "cosine": fitted}, numbers, numbers, numbers, numbers
    )


def record(language: float, *, bare: bool = False, rows: str = "d" * 64) -> RepresentationRecord:
    random = [encoder(RANDOM_WEIGHTS, 1.0, seed) for seed in SEEDS] if bare else []
    return RepresentationRecord(
        task="xnli",
        split="validation",
        languages=("de", "en"),
        left_out_languages={"sw": "no rows"},
        units=200,
        items=100,
        groups=40,
        parts={"train": 100, "select": 30, "held-out": 70},
        pairs={"train": 900, "select": 300, "held-out": 600},
        rows_digest=rows,
        features=FEATURES,
        left_out={"genre": "these rows have none"},
        layers=LAYERS,
        retrieval_layer=2,
        encoders=(encoder(MODEL, language), *random),
    )


def point(on: str) -> dict[str, str]:
    return {"task": "tatoeba", "on": on, "method": "lora", "items": "xnli", "form": "diagonal"}


def finished(
    language: Mapping[str, tuple[float, ...]],
    analysis: Callable[[str, float], Any] = lambda on, value: record(value, bare=on == "none"),
) -> FinishedCells:
    """Cells by their parents → the importance of language under each seed, one for the bare
    backbone.
    """
    cells = []
    for on, values in language.items():
        chain = () if on == "none" else tuple(on.split(">"))
        cell = Cell(
            "tatoeba",
            Variant("lora"),
            chain,
            tuple(point(on).items()),
            bare=on == "none",
            finished_module=on == "none",
        )
        plan: Any = None
        score = Metrics({}, 70.0 + len(chain), None)
        runs = [
            Scored(seed, plan, Outcome("", Path(), True, 0.0, score), analysis(on, value))
            for seed, value in zip(SEEDS, values, strict=False)
        ]
        cells.append(FinishedCell(cell, len(values), runs))
    axes = (
        Axis("task", ("tatoeba",)),
        Axis("on", tuple(language)),
        Axis("method", ("lora",)),
        Axis("items", ("xnli",)),
        Axis("form", ("diagonal",)),
    )
    of_grid = tuple(cell.cell for cell in cells)
    grid = Grid("representation", axes, of_grid, SEEDS, Request(""))
    return FinishedCells(grid, cells, STUDY.contrasts(of_grid), STUDY.margin)


def table(cells: FinishedCells, name: str) -> Table:
    return next(each for each in STUDY.tables(cells) if each.name == name)


def entries(found: Table, label: str) -> dict[str, Entry]:
    line = next(line for line in found.lines if line.label == label)
    return dict(zip(found.columns, line.entries, strict=True))


PLANTED = {
    "none": (20.0,),
    "mnli": (14.0, 14.5, 15.0),
    "pawsx": (19.0, 20.0, 21.0),
    "mnli>pawsx": (15.0, 16.0, 17.0),
}


def test_a_planted_change_is_the_headline() -> None:
    cells = finished(PLANTED)
    answer = STUDY.answer(cells)
    assert answer is not None and answer.verdict == "lower"
    assert "mnli against none" in answer.headline and "-5.50" in answer.headline
    found = table(cells, "language-and-retrieval-xnli-lora")
    change = entries(found, "mnli against none")["language, euclidean"]
    expected = paired(dict(zip(SEEDS, PLANTED["mnli"], strict=True)), dict.fromkeys(SEEDS, 20.0))
    assert expected is not None and expected.interval is not None
    assert (change.value, change.low, change.high) == pytest.approx(
        (expected.mean, expected.interval.low, expected.interval.high)
    )
    # what training on pawsx adds after mnli, and what mnli changes below pawsx, paired over seeds
    assert entries(found, "mnli>pawsx against mnli")["language, euclidean"].value == pytest.approx(
        1.5
    )
    below = entries(found, "mnli>pawsx against pawsx")["language, euclidean"]
    assert (below.value, below.low, below.high) == pytest.approx((-4.0, -4.0, -4.0))
    assert entries(found, "mnli against none")["tatoeba score"].value == pytest.approx(1.0)


def test_no_change_is_no_finding() -> None:
    answer = STUDY.answer(finished({"none": (20.0,), "mnli": (18.5, 20.2, 21.4)}))
    assert answer is not None and answer.verdict == "inconclusive"
    same = STUDY.answer(finished({"none": (20.0,), "mnli": (20.0, 20.1, 19.9)}))
    assert same is not None and same.verdict == "equivalent"


def test_heat_maps_hold_every_layer_before_after_and_the_change() -> None:
    cells = finished(PLANTED)
    before = table(cells, "importance-xnli-lora-euclidean-none")
    assert before.columns == ("0", "1", "2", "3", "4")
    assert [entry.value for entry in before.lines[0].entries] == [10, 10, 20, 10, 10]
    change = table(cells, "change-xnli-lora-cosine-mnli+pawsx-none")
    assert entries(change, "language")["2"].value == pytest.approx(-4.0)
    assert entries(change, "item")["2"].value == pytest.approx(0.0)
    assert all(line.difference for line in change.lines)
    figures = {figure.name: figure for figure in STUDY.figures(cells)}
    maps = [name for name in figures if name.startswith("heatmap-")]
    assert len(maps) == 4 + 5  # cells and comparisons
    scatter = figures["language-against-retrieval-xnli-lora"]
    assert [len(series.points) for series in scatter.series] == [5] * 5


def test_intervals_over_items_are_of_the_same_samples() -> None:
    found = table(finished(PLANTED), "language-and-retrieval-xnli-lora")
    over_items = entries(found, "mnli against none")["language, euclidean, over items"]
    # both cells' samples err alike, so their difference does not
    assert over_items.value == pytest.approx(-5.5, abs=1e-6)
    assert over_items.high is not None and over_items.low is not None
    assert over_items.high - over_items.low < 1e-6 and over_items.verdict == "lower"

    def other_rows(on: str, value: float) -> RepresentationRecord:
        return record(value, rows=("a" if on == "none" else "b") * 64)

    other = table(finished(PLANTED, other_rows), "language-and-retrieval-xnli-lora")
    entry = entries(other, "mnli against none")["language, euclidean, over items"]
    assert entry.value is None and entry.note == "other rows"


def test_controls_stand_beside_the_fit() -> None:
    found = table(finished(PLANTED), "controls-xnli-lora")
    assert [line.label for line in found.lines] == [*PLANTED, "random weights"]
    random = entries(found, "random weights")
    assert random[f"importance of {TOGETHER}"].value == pytest.approx(1.0)
    assert entries(found, "none")["importance of the random feature"].value == pytest.approx(0.1)
    retrieval = table(finished(PLANTED), "retrieval-xnli-lora")
    assert [entry.value for entry in retrieval.lines[-1].entries] == [60, 61, 62, 63, 64]
    assert retrieval.lines[-1].label == "random weights"
    assert entries(found, "mnli")["ceiling"].value == pytest.approx(80.0)
    notes = "\n".join(found.notes)
    assert "genre: these rows have none" in notes and "languages left out: sw" in notes


def test_cells_without_an_analysis_say_so() -> None:
    cells = finished(PLANTED, lambda on, value: None if on == "mnli" else record(value))
    found = table(cells, "importance-xnli-lora-euclidean-mnli")
    assert {entry.note for line in found.lines for entry in line.entries} == {"not run"}
    answer = STUDY.answer(cells)
    assert answer is not None and answer.headline.startswith("pawsx against none")
    assert STUDY.tables(finished(PLANTED, lambda on, value: None)) == ()
    assert STUDY.answer(finished(PLANTED, lambda on, value: None)) is None


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("items=panx", "takes xnli, xquad, tatoeba"),
        ("items=xquadd", "did you mean 'xquad'"),
        ("form=interaction", "did you mean 'interactions'"),
        ("languages=sw", "takes English and another language, and sw has en"),
    ],
)
def test_items_that_cannot_be_compared_are_refused_before_anything_runs(
    setting: str, complaint: str, tmp_path: Path
) -> None:
    axes = {"representation": [axis.name for axis in STUDY.axes]}
    usual = ("backbone=tiny", "data=embedded", "languages=de,zh")
    key = setting.split("=")[0]
    settings = (*(one for one in usual if not one.startswith(key)), setting)
    file = read_study_file("representation-smoke", ("representation",), axes, settings)
    plans = CellPlans(make_grid(STUDY, file, runs=str(tmp_path)))
    with pytest.raises(RequestError, match=complaint):
        _ = plans.cells
