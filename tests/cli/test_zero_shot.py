"""A module of an intermediate task on the target that asks the same in other languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters_xtl import tasks
from tests.command_line import complaints, xtl, xtl_json

SHORT = ("--backbone", "tiny", "--set", "train.max_steps=2", "--set", "eval.max_examples=3")


def test_sample_rows_end_in_several_languages_beside_chance(tmp_path: Path) -> None:
    runs = ("--runs", tmp_path)
    answer = xtl_json("recipe", "mnli", *SHORT, *runs)
    assert list(answer["metrics"]["tasks"]) == ["mnli"]
    scored = answer["zero_shot"]["metrics"]["tasks"]["xnli"]["languages"]
    assert len(scored) == 9 and {"en", "tr", "zh"} < set(scored)
    assert {entry["n"] for entry in scored.values()} == {3}
    # the same scores as those of `xtl evaluate`, which finds them in the store
    again = xtl_json(
        "evaluate", answer["path"], "--task", "xnli", "--set", "eval.max_examples=3", *runs
    )
    assert again["reused"] and again["id"] == answer["zero_shot"]["id"]
    shown = xtl("recipe", "mnli", *SHORT, *runs)
    rows = [line.split("│")[1:-1] for line in shown.stdout.splitlines() if "chance" in line]
    assert [row[1].strip() for row in rows] == ["33.33", "33.33"], "of mnli and of xnli"
    without = xtl_json("recipe", "mnli", *SHORT, *runs, "--no-zero-shot")
    assert without["reused"] and "zero_shot" not in without
    assert "zero_shot" not in xtl_json("recipe", "mnli", *SHORT, *runs, "--languages", "en")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["panx", "--zero-shot"], "no target poses the question of 'panx' in other languages"),
        (["mnli", "--zero-shot", "--seeds", "1,2"], "--zero-shot scores one module"),
    ],
)
def test_what_has_no_such_target_is_refused(
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    done = xtl("recipe", *arguments, *SHORT, "--runs", tmp_path, code=2)
    assert any(expected in line for line in complaints(done)), done.stderr
    assert not list(tmp_path.iterdir())


def test_targets_pose_the_same_question() -> None:
    """The same format and labels, else a head could not answer; and rows in several languages."""
    pairs = {name: tasks.load(name).zero_shot for name in tasks.names()}
    assert {name: other for name, other in pairs.items() if other} == {
        "anli": "xnli",
        "mnli": "xnli",
        "squad1": "xquad",
    }
    for name, other in pairs.items():
        if other:
            task, target = tasks.load(name), tasks.load(other)
            assert (task.format, task.labels) == (target.format, target.labels)
            assert target.kind == "target" and len(target.all_languages) > 1
