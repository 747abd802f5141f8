"""Predictions for the page: which are right, how many there is room for, and safe texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters_xtl.pages import page_predictions
from tests.pages.test_run_figures import stored_run

TAGS = {"words": ["Ada", "lives", "here"], "gold": ["B-PER", "O", "O"]}


@pytest.mark.parametrize(
    ("task", "rows", "expected"),
    [
        (
            "pawsx",
            [
                {"prediction": "1", "gold": "1"},
                {"prediction": "0", "gold": "1"},
                {"prediction": "1", "gold": None},
            ],
            ["right", "wrong", "unknown"],
        ),
        (
            "xquad",
            [
                {"id": "1", "prediction": "the red fox", "gold": ["a fox", "the red fox"]},
                {"id": "2", "prediction": "The red fox!", "gold": ["red fox"]},
                {"id": "3", "prediction": "the red fox ran", "gold": ["red fox"]},
                {"id": "4", "prediction": "a hen", "gold": ["red fox"]},
            ],
            ["right", "right", "partly", "wrong"],
        ),
        (
            "panx",
            [
                {**TAGS, "prediction": ["B-PER", "O", "O"]},
                {**TAGS, "prediction": ["B-PER", "O", "B-LOC"]},
                {**TAGS, "prediction": ["O", "O", "O"]},
            ],
            ["right", "partly", "wrong"],
        ),
        (
            "bucc",
            [
                {"source_id": "a", "target_id": "b", "score": 1.2, "gold": True},
                {"source_id": "a", "target_id": "c", "score": 1.1, "gold": False},
                {"source_id": "d", "target_id": "e", "score": None, "gold": True},
            ],
            ["right", "wrong", "wrong"],
        ),
        ("a task of somebody's", [{"prediction": "x", "gold": "y"}], ["wrong"]),
    ],
)
def test_a_prediction_is_right_partly_right_or_wrong(
    task: str, rows: list[dict[str, object]], expected: list[str]
) -> None:
    assert page_predictions.marks(task, rows, "en") == expected


def test_what_there_is_no_room_for_is_said(tmp_path: Path) -> None:
    runs = [stored_run(tmp_path, {"en": 50.0, "de": 50.0}, seed=seed) for seed in (1, 2)]
    for run in runs:
        folder = run.path / "predictions/pawsx"
        folder.mkdir(parents=True)
        for language in ("en", "de"):
            rows = [{"id": str(n), "prediction": "1", "gold": "0"} for n in range(700)]
            (folder / f"{language}.jsonl").write_text(
                "".join(json.dumps(row) + "\n" for row in rows)
            )
    named = [(f"seed {seed}", run) for seed, run in enumerate(runs, start=1)]
    plenty = page_predictions.gather(named, 10_000_000)
    assert plenty.shown == 2000
    assert plenty.left_out == (
        "Of 2,800 predictions 2,000 are here: the first 500 of each language.",
    )
    little = page_predictions.gather(named, 2000)
    assert little.shown == 40 and len(little.text) < 2400
    assert "Of 1,400 predictions 40 are here: the first 20" in little.left_out[0]
    assert "1 further run " in little.left_out[1]
    [block] = json.loads(little.text)["runs"]
    assert [language["total"] for language in block["tasks"][0]["languages"]] == [700, 700]


def test_no_text_ends_the_script_that_holds_it() -> None:
    texts = ["</script><script>alert(1)", "<!--", "a\u2028b & c"]
    safe = page_predictions.script_safe(texts)
    assert not set("<>&\u2028") & set(safe)
    assert json.loads(safe) == texts
