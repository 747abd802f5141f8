"""Figures of runs: seeds put together, languages by their gap to English, costs of the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from adapters_xtl.base.errors import MismatchError
from adapters_xtl.pages import run_figures
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.runs.records import (
    METRICS,
    PROVENANCE,
    BackboneRecord,
    EvaluationRecord,
    Lineage,
    Metrics,
    ModuleReference,
    Provenance,
    RowsRecord,
    SelectedStep,
    Spec,
    TaskScores,
    TrainingCost,
    write_record,
)
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.stored_runs import StoredRun

SHA = "0123456789abcdef" * 4
GIB = 2**30


def stored_run(
    folder: Path,
    scores: Mapping[str, float],
    *,
    seed: int = 1,
    method: str = "lora",
    parent: str = "",
    rate: float = 1e-4,
    evaluates: StoredRun | None = None,
    parent_id: str = "",
    log: str = "",
) -> StoredRun:
    """A run of pawsx on disk, as far as its figures read it."""
    run = Run(
        tasks=(("pawsx", 1),),
        data={"train": (SHA,), "select": (SHA,)},
        backbone=SHA,
        method=method,
        options={},
        compose="stack" if parent else "",
        bits=32,
        dtype="float32",
        from_layer=0,
        hyper=Hyper(lr=rate),
        seed=seed,
        protocol="clean",
        parents=(parent_id or f"{seed:012x}",) if parent else (),
    )
    identity = run.id if evaluates is None else f"{seed:04x}" + "e" * 8
    spec = Spec(
        id=identity,
        kind="training" if evaluates is None else "evaluation",
        task="pawsx",
        request={},
        backbone=BackboneRecord("tiny", "tiny", SHA),
        data="embedded",
        bits=32,
        dtype="float32",
        run=run,
        module=ModuleReference("pawsx", run.id),
        parents=(ModuleReference(parent, parent_id or f"{seed:012x}"),) if parent else (),
        evaluation=EvaluationRecord(
            f"{seed:012x}", {"pawsx": "validation"}, 0, {"pawsx": tuple(scores)}
        ),
    )
    languages = {code: {"accuracy": value, "n": 10} for code, value in scores.items()}
    mean = sum(scores.values()) / len(scores)
    cost = TrainingCost(1.5, 64, 900, 2, seed * GIB, 32, 10, 4, 99, 800, SelectedStep(2, 70.0))
    path = folder / identity
    path.mkdir(parents=True)
    write_record(
        path / METRICS,
        Metrics(
            tasks={"pawsx": TaskScores("validation", "accuracy", mean, languages)},
            score=mean,
            train=cost if evaluates is None else None,
        ),
    )
    write_record(
        path / PROVENANCE,
        Provenance(
            {}, None, None, RowsRecord("embedded"), Lineage(SHA), memory_measured="all of it"
        ),
    )
    if log:
        (path / run_figures.LOG).write_text(log)
    return StoredRun(path, spec)


LOG = (
    '{"loss": 2.0, "grad_norm": null, "learning_rate": 0.0, "epoch": 0.5, "step": 1}\n'
    '{"eval_score": 40.0, "epoch": 0.5, "step": 1}\n'
    '{"loss": 1.0, "learning_rate": 0.0, "epoch": 1.0, "step": 2}\n'
)


def test_seeds_of_one_setting_are_one_group(tmp_path: Path) -> None:
    runs = [
        stored_run(tmp_path, {"en": 70.0}, seed=1, parent="mnli"),
        stored_run(tmp_path, {"en": 72.0}, seed=2, parent="mnli"),
        stored_run(tmp_path, {"en": 60.0}, seed=1),
        stored_run(tmp_path, {"en": 61.0}, seed=1, rate=2e-4),
    ]
    groups = run_figures.groups(runs)
    assert [len(group.runs) for group in groups] == [2, 1, 1]
    assert groups[0].name == "mnli>pawsx, lora, stack"
    assert groups[1].name == f"pawsx, lora [{runs[2].spec.id}]"
    assert len({group.name for group in groups}) == 3


def test_runs_that_differ_in_more_than_their_seed_are_no_seeds_of_one_setting(
    tmp_path: Path,
) -> None:
    """Other languages of one module, or parents that were trained differently."""
    trained = stored_run(tmp_path, {"en": 70.0, "de": 60.0})
    scored_later = stored_run(tmp_path / "later", {"fr": 50.0}, evaluates=trained)
    assert [len(group.runs) for group in run_figures.groups([trained, scored_later])] == [1, 1]
    children = [
        stored_run(tmp_path, {"en": 70.0}, seed=seed, parent="mnli", parent_id=f"{rows}{seed}" * 6)
        for rows in "ab"
        for seed in (1, 2)
    ]
    assert [len(group.runs) for group in run_figures.groups(children)] == [1, 1, 1, 1]
    assert [len(group.runs) for group in run_figures.groups(children[:2])] == [2]


def test_learning_curves_have_the_logs_numbers(tmp_path: Path) -> None:
    runs = [
        stored_run(tmp_path, {"en": 70.0}, seed=1, log=LOG),
        stored_run(tmp_path, {"en": 70.0}, seed=2, log=LOG.replace('"loss": 1.0', '"loss": 0.5')),
        stored_run(tmp_path, {"en": 70.0}, method="full"),
    ]
    logs = {run.spec.id: run_figures.read_log(run.path) for run in runs}
    assert logs[runs[2].spec.id] == []
    figure = run_figures.learning_curves(runs, logs)
    assert figure is not None and figure.kind == "curve" and len(figure.series) == 1
    points = [(point.x, point.y, point.low, point.high) for point in figure.series[0].points]
    assert points == [(1.0, 2.0, 2.0, 2.0), (2.0, 0.75, 0.5, 1.0)]
    assert "2 seeds" in figure.caption and "band" in figure.caption
    selected = run_figures.learning_curves(runs, logs, "eval_score")
    assert selected is not None and [point.y for point in selected.series[0].points] == [40.0]
    assert run_figures.learning_curves(runs[2:], logs) is None


@pytest.mark.parametrize("cut", ['{"loss": 2.0, "st', "[1]", '{"loss": 1.0}', '{"step": "a"}'])
def test_a_damaged_log_is_named_by_line(cut: str, tmp_path: Path) -> None:
    run = stored_run(tmp_path, {"en": 70.0}, log=LOG + cut)
    with pytest.raises(MismatchError, match=r"train_log\.jsonl, line 4"):
        run_figures.read_log(run.path)


def test_languages_stand_by_their_gap_to_english(tmp_path: Path) -> None:
    runs = [
        stored_run(tmp_path, {"sw": 50.0, "en": 80.0, "de": 77.0}, seed=1),
        stored_run(tmp_path, {"sw": 52.0, "en": 82.0, "de": 79.0}, seed=2),
        stored_run(tmp_path, {"en": 70.0, "th": 65.0}, method="full"),
    ]
    figure = run_figures.language_bars(runs, "pawsx", "validation")
    assert figure is not None and "gap to English" in figure.x_label
    lora, full = figure.series
    assert [point.x for point in lora.points] == ["en", "de", "th", "sw"]
    assert [point.y for point in lora.points] == [81.0, 78.0, None, 51.0]
    # 81 ± 12.7062 · √2 / √2
    assert (lora.points[0].low, lora.points[0].high) == pytest.approx((68.293795, 93.706205))
    assert lora.points[2].note == "not scored"
    assert full.points[0].low is None, "one seed has no interval"
    assert run_figures.language_bars(runs, "pawsx", "test") is None
    without = run_figures.language_bars(
        [stored_run(tmp_path / "b", {"sw": 50.0, "de": 77.0})], "pawsx", "validation"
    )
    assert without is not None and [p.x for p in without.series[0].points] == ["de", "sw"]
    assert "English" not in without.x_label


def test_memory_is_that_of_the_training_also_for_an_evaluation(tmp_path: Path) -> None:
    trained = [stored_run(tmp_path, {"en": 80.0}, seed=seed) for seed in (1, 2)]
    figure = run_figures.score_against_memory(trained, "pawsx", "validation")
    assert figure is not None
    (point,) = figure.series[0].points
    assert (point.x, point.y, point.area, point.note) == (1.5, 80.0, 800.0, "pawsx, lora")
    assert figure.series[0].name == "lora" and "all of it" in figure.caption
    evaluation = stored_run(tmp_path, {"en": 60.0}, seed=2, evaluates=trained[1])
    only_trained = replace(trained[1])
    again = run_figures.score_against_memory([only_trained, evaluation], "pawsx", "validation")
    assert again is not None and again.series[0].points[0].x == 2.0
    assert run_figures.score_against_memory([evaluation], "pawsx", "validation") is None
