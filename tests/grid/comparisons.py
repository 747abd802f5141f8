"""Comparisons on a tiny random XLM-R with two training steps, for the tests of this directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters_xtl.base.files import read_json
from adapters_xtl.cli.commands import compare as commands
from adapters_xtl.grid.cells import Grid
from tests.finished_runs import settings

QUICK = ("train.max_steps=2", "train.eval_every=1", "train.select_examples=20")
FLAGS = [
    "--backbone",
    "tiny",
    "--data",
    "embedded",
    "--device",
    "cpu",
    *(word for setting in QUICK for word in ("--set", setting)),
]


def grid_of(task: str, runs: Path, *own: str, **options: Any) -> Grid:
    """The grid of `xtl compare TASK` with small settings."""
    flags: dict[str, Any] = {
        "on": (),
        "methods_": "full,lora",
        "bits": "auto",
        "seeds": "1,2",
        "tune": (),
        "tune_seeds": "",
        "backbone": "tiny",
        "data": "embedded",
        "device": "cpu",
        "languages": "de",
        **options,
    }
    return commands.comparison(
        task=task, set_=settings(QUICK, *own), set_parents=list(QUICK), runs=str(runs), **flags
    )


def compare(
    task: str,
    runs: Path,
    *settings: str,
    out: Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> tuple[dict[str, Any], list[str]]:
    notices: list[str] = []
    payload, _ = commands.compare(
        grid_of(task, runs, *settings, **options),
        command="xtl compare",
        dry_run=dry_run,
        out=str(out) if out else None,
        notify=notices.append,
    )
    return payload, notices


def metrics(runs: Path, name: str) -> dict[str, Any]:
    return dict(read_json(runs / name / "metrics.json"))
