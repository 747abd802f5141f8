"""Tasks whose sources follow one another (`ordered`): each stage trains, selects and is recorded by
itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters_xtl import tasks
from tests.command_line import complaints, xtl, xtl_json

ORDERED = [name for name in tasks.names() if tasks.load(name).ordered]


@pytest.mark.parametrize("task", ORDERED)
def test_a_short_run_reaches_every_stage(task: str, tmp_path: Path) -> None:
    done = xtl_json(
        *("recipe", task, "--backbone", "tiny", "--set", "train.max_steps=6", "--json"),
        *("--set", "eval.max_examples=5", "--set", "train.lr=0.01", "--runs", tmp_path),
    )
    train = done["metrics"]["train"]
    stages = train["stages"]
    assert len(stages) == len(tasks.load(task).train)
    assert [stage["steps"] for stage in stages] == [3, 3] and train["steps"] == 6
    assert len({stage["rows"] for stage in stages}) == 2, "each names its source"
    first, last = (stage["select"] for stage in stages)
    assert 1 <= first["step"] <= 3 < last["step"] <= 6
    assert train["select"] == last, "what the module keeps is the last stage's choice"
    log = [
        json.loads(line)
        for line in (Path(done["path"]) / "train_log.jsonl").read_text().splitlines()
    ]
    for number in (1, 2):
        lines = [entry for entry in log if entry["stage"] == number]
        assert max(entry.get("learning_rate", 0) for entry in lines) == 0.01, "each peaks"
        assert any("eval_score" in entry for entry in lines), "and is scored"


def test_max_examples_is_shared_as_the_steps_are(tmp_path: Path) -> None:
    done = xtl_json(
        *("recipe", "xcopa", "--backbone", "tiny", "--set", "train.epochs=1", "--json"),
        *("--set", "train.max_examples=20", "--set", "eval.max_examples=5", "--runs", tmp_path),
    )
    assert [stage["examples"] for stage in done["metrics"]["train"]["stages"]] == [10, 10]


def test_a_run_of_one_stage_records_one(tmp_path: Path) -> None:
    done = xtl_json(
        *("recipe", "mnli", "--backbone", "tiny", "--set", "train.max_steps=2", "--json"),
        *("--set", "eval.max_examples=5", "--runs", tmp_path),
    )
    train = done["metrics"]["train"]
    (stage,) = train["stages"]
    assert (stage["steps"], stage["examples"]) == (train["steps"], train["examples"])
    assert stage["select"] == train["select"]


@pytest.mark.parametrize("key", ["max_steps", "max_examples"])
def test_less_than_one_for_each_stage_is_refused(key: str, tmp_path: Path) -> None:
    request = ("recipe", "xcopa", "--backbone", "tiny", "--set", f"train.{key}=1", "--dry-run")
    (line,) = complaints(xtl(*request, "--runs", tmp_path, code=2))
    assert f"train.{key}=1" in line and "2 stages" in line
