"""Rows of other domains in the layouts of the hub's data sets: made-up files, read as a run reads
them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from adapters_xtl import tasks
from adapters_xtl.data.locate import locate_report
from adapters_xtl.data.reading import Reader, read_report
from adapters_xtl.data.splits import CheckedSplit
from tests.data.mirrors import mirror_of

SPANS = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
MNLI = "nyu-mll/multi_nli/default/{}-00000-of-00001.parquet"


def report(
    root: Path, name: str, split: str, files: dict[str, Any], labels: dict[str, list[str]]
) -> tuple[dict[str, CheckedSplit], dict[str, str]]:
    """(language → rows, language → what is missing) of a report split."""
    task, source = tasks.load(name), mirror_of(root, files, labels)
    located, lacking = locate_report(source, task, split, task.all_languages)
    parts, missing = read_report(Reader(), task, located)
    return parts, {**lacking, **missing}


def questions(answers: list[list[str]]) -> pa.Table:
    return pa.table(
        {
            "id": [f"q{number}" for number in range(len(answers))],
            "title": ["Rivers"] * len(answers),
            "context": ["The Elbe is long, the Isar is short."] * len(answers),
            "question": [f"Which one is number {number}?" for number in range(len(answers))],
            "answers": pa.array(
                [
                    {"text": texts, "answer_start": [4 if text == "Elbe" else 22 for text in texts]}
                    for texts in answers
                ],
                type=SPANS,
            ),
        }
    )


def test_a_domain_is_a_config_of_squadshifts_and_of_m2qa(tmp_path: Path) -> None:
    """M2QA's questions without an answer are left out, and counted."""
    shifts = {
        f"ludwigschmidt/squadshifts/{domain}/test-00000-of-00001.parquet": questions(answers)
        for domain, answers in (("nyt", [["Elbe"]] * 3), ("reddit", [["Isar"]] * 5))
    }
    parts, missing = report(tmp_path, "squadshifts", "reddit", shifts, {})
    assert [row["answers"]["text"] for row in parts["en"].examples] == [["Isar"]] * 5
    assert not missing and report(tmp_path, "squadshifts", "amazon", shifts, {})[1].keys() == {"en"}
    m2qa = {
        "UKPLab/m2qa/m2qa.german.news/validation-00000-of-00001.parquet": questions(
            [["Elbe"], [], ["Isar"]]
        )
    }
    parts, missing = report(tmp_path, "m2qa", "news", m2qa, {})
    assert [row["id"] for row in parts["de"].examples] == ["q0", "q2"]
    assert sum(parts["de"].faults.values()) == 1 and missing.keys() == {"tr", "zh"}


def test_masakhaners_dates_are_no_entities(tmp_path: Path) -> None:
    labels = list(tasks.load("masakhaner").labels)
    rows = {
        "id": ["0"],
        "tokens": [["Amina", "alifika", "siku", "ya", "Jumatatu"]],
        "ner_tags": [[labels.index(tag) for tag in ("B-PER", "O", "B-DATE", "I-DATE", "I-DATE")]],
    }
    files = {"masakhane/masakhaner/swa/test-00000-of-00001.parquet": rows}
    parts, _ = report(tmp_path, "masakhaner", "news", files, {"ner_tags": labels})
    (example,) = parts["sw"].examples
    assert example["tags"] == ["B-PER", "O", "O", "O", "O"]
    assert {tag for tag in labels if "DATE" not in tag} == set(tasks.load("panx").labels)


def test_a_genre_is_picked_from_both_validation_files(tmp_path: Path) -> None:
    labels = list(tasks.load("mnli_genres").labels)

    def rows(*genres: str) -> dict[str, list[Any]]:
        numbers = range(len(genres))
        return {
            "pairID": [f"{genre}-{number}" for number, genre in enumerate(genres)],
            "premise": [f"premise {number} of {genres[number]}" for number in numbers],
            "hypothesis": ["hypothesis"] * len(genres),
            "label": [number % 3 for number in numbers],
            "genre": list(genres),
        }

    files = {
        MNLI.format("validation_matched"): rows("fiction", "travel", "fiction"),
        MNLI.format("validation_mismatched"): rows("oup", "fiction", "letters"),
    }
    named = {"label": labels}
    parts, _ = report(tmp_path, "mnli_genres", "fiction", files, named)
    assert [row["id"] for row in parts["en"].examples] == ["fiction-0", "fiction-2", "fiction-1"]
    parts, missing = report(tmp_path, "mnli_genres", "verbatim", files, named)
    assert not parts and "genre verbatim: no rows" in missing["en"]
    for path in files:  # as in nyu-mll/glue, which has no genres
        del files[path]["genre"]
    parts, missing = report(tmp_path, "mnli_genres", "fiction", files, named)
    assert not parts and "no column 'genre'" in missing["en"]
    assert len(report(tmp_path, "mnli_genres", "matched", files, named)[0]["en"].examples) == 3


def test_gums_genres_are_told_by_their_sentence_ids(tmp_path: Path) -> None:
    """All three splits of GUM; a fused form gives way to its syntactic words."""
    labels = ["NOUN", "_", "VERB", "PART", "PRON"]  # in another order than the task's

    def rows(*identities: str) -> dict[str, list[Any]]:
        return {
            "idx": list(identities),
            "tokens": [["We", "can't", "ca", "n't"]] * len(identities),
            "upos": [[4, 1, 2, 3]] * len(identities),
        }

    path = "universal-dependencies/universal_dependencies/en_gum/{}-00000-of-00001.parquet"
    files = {
        path.format("train"): rows("GUM_bio_byron-1", "GUM_news_sensitive-4"),
        path.format("validation"): rows("GUM_news_iodine-1"),
        path.format("test"): rows("GUM_voyage_oakland-3"),
    }
    parts, _ = report(tmp_path, "gum", "news", files, {"upos": labels})
    examples = parts["en"].examples
    assert [row["id"] for row in examples] == ["GUM_news_sensitive-4", "GUM_news_iodine-1"]
    assert examples[0]["words"] == ["We", "ca", "n't"]
    assert examples[0]["tags"] == ["PRON", "VERB", "PART"]
    assert not report(tmp_path, "gum", "academic", files, {"upos": labels})[0]


@pytest.mark.parametrize(
    "name", [name for name in tasks.names() if tasks.load(name).in_domain_task]
)
def test_every_domain_of_a_task_can_be_asked_for(name: str) -> None:
    task = tasks.load(name)
    home = tasks.load(task.in_domain_task)
    assert task.domains and set(task.domains) <= set(task.report)
    assert home is not task or next(iter(task.report)) not in task.domains
    assert (home.format, home.metric, home.scorer) == (task.format, task.metric, task.scorer)
