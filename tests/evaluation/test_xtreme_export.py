"""XTREME's files are written in XTREME's order: scored by the official rule, they give the run's
own score.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from adapters_xtl import formats, metrics, tasks
from adapters_xtl.evaluation import scoring, xtreme_export
from adapters_xtl.formats import Item
from adapters_xtl.metrics.xtreme import official_files

RETRIEVE = formats.load("retrieve")


def _predictions(pairs: list[tuple[str, str]], nearest: list[int]) -> list[dict[str, Any]]:
    """Predictions of pairs (source, English) whose English vectors lie at the given source rows."""
    examples = [
        {"id": f"#{row}", "source": source, "target": english}
        for row, (source, english) in enumerate(pairs)
    ]
    items, vectors = [], []
    for row, place in enumerate(nearest):
        for side, where in (("source", row), ("target", place)):
            items.append(Item(row, (np.zeros(1, np.int32),), extra={"side": side}))
            vectors.append(np.eye(len(pairs), dtype=np.float32)[where])
    return RETRIEVE.decode(examples, items, vectors, ())


def test_tatoebas_lines_follow_the_sorted_english_sentences() -> None:
    """By code points of the stripped text; equal sentences stay in the rows' order."""
    pairs = [
        ("eins", "zebra"),
        ("zwei", " apple"),
        ("drei", "Zoo"),
        ("vier", "apple"),
        ("fünf", "été"),
    ]
    predictions = _predictions(pairs, [0, 1, 3, 2, 4])
    assert scoring.score(tasks.load("tatoeba"), predictions, "de")["accuracy"] == 60.0
    text = RETRIEVE.xtreme_text(predictions)
    #  Zoo→3, apple (row 1)→1, apple (row 3)→2, zebra→0, été→4
    assert text.split() == ["3", "1", "2", "0", "4"]
    labels = "2\n1\n3\n0\n4\n"
    assert official_files.score_text("tatoeba", "de", text, labels)["accuracy"] == 60.0


def test_tatoebas_order_is_the_official_one(mirror: Path) -> None:
    """Against the labels that the official evaluator has for a whole language."""
    cases = json.loads((mirror.parent / "oracle" / "tatoeba.json").read_text())["cases"]
    whole = [case for case in cases if case["language"] == "af" and len(case["labels"]) == 1000]
    labels = whole[0]["labels"]
    (path,) = (mirror / "google/xtreme/tatoeba.afr").glob("*.parquet")
    table = pq.read_table(path).to_pydict()
    pairs = list(zip(table["source_sentence"], table["target_sentence"], strict=True))
    rng = np.random.default_rng(5)
    nearest = np.where(rng.random(len(pairs)) < 0.7, np.arange(len(pairs)), 0).tolist()
    predictions = _predictions(pairs, nearest)
    own = scoring.score(tasks.load("tatoeba"), predictions, "af")["accuracy"]
    text, gold = RETRIEVE.xtreme_text(predictions), "".join(f"{label}\n" for label in labels)
    assert official_files.score_text("tatoeba", "af", text, gold)["accuracy"] == pytest.approx(own)
    assert 60 < own < 80


def test_bucc_is_named_for_what_it_is() -> None:
    """The shared task's sample set has gold and is XTREME's dev; what XTREME calls test is another
    corpus, of which nothing is reported here.
    """
    task = tasks.load("bucc")
    for split in task.report:
        assert xtreme_export._split_word(task, split) == "dev"
    for name in ("tatoeba", "xquad", "tydiqa"):
        (split,) = tasks.load(name).report
        assert xtreme_export._split_word(tasks.load(name), split) == "test"


EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "xnli": [
        {"prediction": "neutral", "gold": "neutral"},
        {"prediction": "entailment", "gold": "contradiction"},
        {"prediction": "entailment", "gold": "entailment"},
    ],
    "pawsx": [{"prediction": "0", "gold": "1"}, {"prediction": "1", "gold": "1"}],
    "panx": [
        {"prediction": ["B-PER", "I-PER", "O"], "gold": ["B-PER", "I-PER", "O"]},
        {"prediction": ["O"], "gold": ["B-LOC"]},
    ],
    "udpos": [
        {"prediction": ["NOUN", "VERB"], "gold": ["NOUN", "NOUN"]},
        {"prediction": ["DET"], "gold": ["DET"]},
    ],
    "xquad": [
        {"id": "b", "prediction": "in Bern", "gold": ["Bern"]},
        {"id": "a", "prediction": "1999", "gold": ["1999", "in 1999"]},
    ],
    "mlqa": [{"id": "b", "prediction": "der Fluß", "gold": ["Fluß"]}],
    "tydiqa": [{"id": "b", "prediction": "", "gold": ["Bern"]}],
    "bucc": [
        {"source_id": "s1", "target_id": "t1", "score": 1.9, "gold": True},
        {"source_id": "s2", "target_id": "t2", "score": 1.8, "gold": False},
        {"source_id": "s3", "target_id": "t3", "score": 1.7, "gold": True},
        {"source_id": "s4", "target_id": "t4", "score": 1.1, "gold": False},
        {"source_id": "s5", "target_id": "t5", "gold": True},
    ],
}


@pytest.mark.parametrize("name", [name for name in xtreme_export.ROWS if name != "tatoeba"])
def test_what_is_exported_scores_what_the_run_scored(name: str) -> None:
    """Every exported task: its file, by the official rule, against labels in the official form."""
    task = tasks.load(name)
    form = formats.load(task.format)
    rows = EXAMPLES[name]
    own = metrics.get(task.scorer).score(rows, "de")
    official_name = xtreme_export.FOLDERS.get(name, name)
    official = official_files.score_text(official_name, "de", form.xtreme_text(rows), _labels(rows))
    for metric, value in official.items():
        assert own[metric] == pytest.approx(value), metric


def _labels(rows: list[dict[str, Any]]) -> str:
    """The label file of these rows, in XTREME's form."""
    if "source_id" in rows[0]:
        pairs = (f"{row['source_id']}\t{row['target_id']}\n" for row in rows if row["gold"])
        return "".join(pairs)
    if "id" in rows[0]:
        questions = [
            {"id": row["id"], "answers": [{"text": text} for text in row["gold"]]} for row in rows
        ]
        return json.dumps({"data": [{"paragraphs": [{"context": "", "qas": questions}]}]})
    if isinstance(rows[0]["gold"], list):
        return "".join("".join(f"{tag}\n" for tag in row["gold"]) + "\n" for row in rows)
    return "".join(f"{row['gold']}\n" for row in rows)
