"""A task, and a method, is one file: dropped into the scanned directories, a recipe runs on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters_xtl import methods, tasks
from adapters_xtl.cli.commands import recipe as commands
from adapters_xtl.runs.recipes import read_recipe

TASK = '''
"""Are two numbers written alike?"""

from adapters_xtl.tasks import Rows, Task

_COLUMNS = {"left": "string", "right": "string", "same": "class"}

TASK = Task(
    kind="intermediate",
    format="classify",
    metric="accuracy",
    scorer="accuracy",
    title="the same number",
    labels=("no", "yes"),
    train=(Rows("someone/numbers", "default", "train", _COLUMNS),),
    select=(Rows("someone/numbers", "default", "validation", _COLUMNS),),
    report={"validation": (Rows("someone/numbers", "default", "validation", _COLUMNS),)},
)


def example(row):
    return {"text": row["left"], "pair": row["right"], "label": row["same"]}
'''

METHOD = '''
"""Only the layer norms train."""

from adapters_xtl.methods.full import save

LR = 1e-3
DEFAULTS = {}
COMPOSES = {"init": "copy"}


def check(options):
    return []


def attach(encoder, chain, options, *, from_layer=0, train=True):
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(train and "LayerNorm" in name)
    return encoder


def footprint(encoder, options, *, from_layer=0):
    return sum(p.numel() for name, p in encoder.named_parameters() if "LayerNorm" in name)
'''


def test_a_new_task_and_a_new_method_need_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room, name, text in (("tasks", "numbers", TASK), ("methods", "norms", METHOD)):
        (tmp_path / room).mkdir()
        (tmp_path / room / f"{name}.py").write_text(text)
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path / "tasks")])
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "methods")])
    tasks.load.cache_clear()
    methods.load.cache_clear()
    data = tmp_path / "mirror" / "someone" / "numbers" / "data"
    data.mkdir(parents=True)
    for split in ("train", "validation"):
        rows = [
            {"left": f"{n}", "right": f"{n + n % 2}", "same": "yes" if n % 2 == 0 else "no"}
            for n in range(40)
        ]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = commands.request(
        task="numbers",
        on="",
        set_=["train.max_steps=2"],
        set_parents=[],
        method="norms",
        backbone="tiny",
        device="cpu",
        data=str(tmp_path / "mirror"),
        runs=str(tmp_path / "runs"),
    )
    payload, _ = commands.recipe(
        asked, baseline=False, force=False, dry_run=False, notify=lambda text: None
    )
    assert (
        payload["metrics"]["train"]["trainable_parameters"]
        == 9 * 2 * 32 + payload["metrics"]["train"]["head_parameters"]
    )
    assert payload["metrics"]["tasks"]["numbers"]["languages"]["en"]["n"] == 40
    assert not read_recipe("numbers").tables
