"""Every task, start to finish, on the embedded rows; targets also on real rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import tasks
from adapters_xtl.cli.commands import recipe as commands

# multi: tests/test_pipeline.py; americasnli has no sample rows
NAMES = [name for name in tasks.names() if name not in ("multi", "americasnli")]


def run(task: str, runs: Path, **options: Any) -> dict[str, Any]:
    trains = bool(tasks.load(task).train or tasks.load(task).train_from)
    limits = ["train.max_steps=2", "train.select_examples=10"] if trains else []
    if task != "bucc":  # mined whole, or not at all
        limits.append("eval.max_examples=100")
    asked = commands.request(
        task=task,
        on="",
        set_=limits,
        set_parents=[],
        backbone="tiny",
        device="cpu",
        runs=str(runs),
        **options,
    )
    payload, _ = commands.recipe(
        asked, baseline=False, force=False, dry_run=False, notify=lambda text: None
    )
    return payload


@pytest.mark.parametrize("name", NAMES)
def test_a_task_runs_on_the_embedded_rows(name: str, runs: Path) -> None:
    task = tasks.load(name)
    metrics = run(name, runs, data="embedded")["metrics"]
    languages = metrics["tasks"][name]["languages"]
    assert len(languages) >= (6 if task.kind == "target" and not task.in_domain_task else 1)
    for scores in languages.values():
        assert scores["n"] > 0 and 0 <= scores[task.metric] <= 100
        assert all(math.isfinite(value) for value in scores.values())
    assert bool(metrics["tasks"][name].get("selected_on")) == (task.kind == "intermediate")
    mean = sum(scores[task.metric] for scores in languages.values()) / len(languages)
    assert metrics["tasks"][name]["score"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("name", "languages"),
    [
        ("xnli", "zh"),
        ("pawsx", "ko"),
        ("udpos", "mr,te"),
        ("panx", "my,qu"),
        ("xquad", "ar"),
        ("mlqa", "zh"),
        ("tydiqa", "ko"),
        ("tatoeba", "jv,te"),
        ("xcopa", "th"),
        ("masakhaner", "sw"),
        ("americasnli", "quy"),
    ],
)
def test_a_target_runs_on_real_rows(name: str, languages: str, runs: Path, mirror: Path) -> None:
    settings = {"data": str(mirror), "languages": languages}
    metrics = run(name, runs, **settings)["metrics"]
    assert sorted(metrics["tasks"][name]["languages"]) == sorted(languages.split(","))
