"""Rows of other domains in the layouts of the hub's data sets: made-up files, read as a run reads
them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from adapters_xtl import metrics, tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.locate import locate_report, locate_training
from adapters_xtl.data.reading import Reader, read_report, read_training
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


# a passage, a question and an answer under M2QA's own key, made with openssl
PASSAGE, QUESTION, ANSWER = (
    "gAAAAABmRUyAAQEBAQEBAQEBAQEBAQEBASy2G36pxW8sELzfYOY4v7AGQvfjMKLbbyw0mvXMSLUieyj8Sen8wlWRvr6pavZi"
    "8PabcAuhH1rU62sldpDe03T3Lbc07O-_kKFRA9rlwbQf",
    "gAAAAABmRUyAAgICAgICAgICAgICAgICAh5sv42QNlG3_mOxwmDr9OWveO6edDH7CuV_efVk6sjPWmx5c-7Eh0fJmad9qcTM"
    "8Dw8hzyJ4Cawcp6x2xBR9tY=",
    "gAAAAABmRUyAAwMDAwMDAwMDAwMDAwMDAxRKHjTpXVYR-Za6HLhE2IX0eeLjyfAbwL3oD5vwBrxADQ1JqwDlBETR4K6xwlzF"
    "_w==",
)


def test_m2qas_rows_are_decrypted(tmp_path: Path) -> None:
    """As on the hub: the texts are encrypted, the places of the answers are not. A text that its key
    does not open is an unfit row.
    """
    answers = [
        {"text": [ANSWER], "answer_start": [4]},
        {"text": [], "answer_start": []},
        {"text": [ANSWER], "answer_start": [4]},
    ]
    broken = PASSAGE.replace("Y4v7", "Y4w7")
    rows = {
        "id": ["de_news_1_q0", "de_news_1_q1", "de_news_1_q2"],
        "question": [QUESTION] * 3,
        "context": [PASSAGE, PASSAGE, broken],
        "answers": pa.array(
            answers,
            type=pa.struct(
                [("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int64()))]
            ),
        ),
    }
    path = "UKPLab/m2qa/m2qa.german.news/validation-00000-of-00001.parquet"
    parts, _ = report(tmp_path, "m2qa", "news", {path: pa.table(rows)}, {})
    (example,) = parts["de"].examples
    assert example["context"] == "Die Elbe ist größer als die Isar."
    assert example["question"] == "Welcher Fluss ist größer?"
    assert example["answers"] == {"text": ["Elbe"], "answer_start": [4]}
    assert len(parts["de"].faults) == 2 and "another key" in str(parts["de"].faults)


def test_all_golds_of_a_question_count(tmp_path: Path) -> None:
    """SQuAD Shifts' rows have three annotators' answers, some of them twice."""
    shifts = {
        "ludwigschmidt/squadshifts/nyt/test-00000-of-00001.parquet": questions(
            [["Isar", "Elbe", "Isar"]]
        )
    }
    (row,) = report(tmp_path, "squadshifts", "nyt", shifts, {})[0]["en"].examples
    assert row["answers"]["text"] == ["Isar", "Elbe", "Isar"]
    prediction = {"id": row["id"], "prediction": "the Elbe.", "gold": row["answers"]["text"]}
    scores = metrics.get("squad").score([prediction], "en")
    assert scores["f1"] == scores["exact_match"] == 100


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


UD = "universal-dependencies/universal_dependencies/{}/{}-00000-of-00001.parquet"
UD_LABELS = ["NOUN", "PUNCT", "VERB", "PART", "PRON", "_"]  # in another order than the task's


def treebank(*identities: str) -> dict[str, list[Any]]:
    """Rows as the hub has them: every line of the sentence, with a fused form before its words and an
    empty node, both without a head.
    """
    count = len(identities)
    return {
        "idx": list(identities),
        "text": ["We can't."] * count,
        "tokens": [["We", "can't", "ca", "n't", "go", "."]] * count,
        "upos": [[4, 5, 2, 3, 2, 1]] * count,
        "head": [["2", "None", "0", "2", "None", "2"]] * count,
    }


def test_gums_genres_are_told_by_their_sentence_ids(tmp_path: Path) -> None:
    """All three splits of GUM; of the lines of a sentence its syntactic words are left."""
    files = {
        UD.format("en_gum", "train"): treebank("GUM_bio_byron-1", "GUM_news_sensitive-4"),
        UD.format("en_gum", "validation"): treebank("GUM_news_iodine-1"),
        UD.format("en_gum", "test"): treebank("GUM_voyage_oakland-3"),
    }
    named = {"upos": UD_LABELS}
    parts, _ = report(tmp_path, "gum", "news", files, named)
    examples = parts["en"].examples
    assert [row["id"] for row in examples] == ["GUM_news_sensitive-4", "GUM_news_iodine-1"]
    assert examples[0]["words"] == ["We", "ca", "n't", "."]
    assert examples[0]["tags"] == ["PRON", "VERB", "PART", "PUNCT"]
    assert not report(tmp_path, "gum", "academic", files, named)[0]


def test_a_training_is_on_chosen_genres_of_ewt(tmp_path: Path) -> None:
    """Train and select rows alike; and report rows of several genres go under their joined names."""
    task = tasks.load("ewt")
    identities = [
        f"{genre}-{number}" for number in range(3) for genre in ("weblog", "email", "reviews")
    ]
    files = {UD.format("en_ewt", split): treebank(*identities)
             for split in ("train", "validation", "test")}  # fmt: skip
    source = mirror_of(tmp_path, files, {"upos": UD_LABELS})
    located = locate_training(source, task, "xtreme", tasks.load, genres=("email", "weblog"))
    rows = read_training(Reader(), task, located, tasks.load)
    for part in (rows.train, rows.select):
        assert {row["id"].split("-")[0] for row in part.examples} == {"email", "weblog"}
        assert len(part.examples) == 6
    parts, _ = report(tmp_path, "ewt", "reviews+email", files, {"upos": UD_LABELS})
    assert Counter(row["id"].split("-")[0] for row in parts["en"].examples) == {
        "reviews": 3,
        "email": 3,
    }
    located = locate_training(source, task, "clean", tasks.load, genres=("email", "answers"))
    with pytest.raises(DataError, match=r"no rows of answers-\* to train on"):
        read_training(Reader(), task, located, tasks.load)
    assert task.reports("web") and task.reports("email+answers")
    assert not task.reports("email+email") and not task.reports("email+blogs")
    assert not tasks.load("xnli").reports("validation+test")


@pytest.mark.parametrize(
    "name", [name for name in tasks.names() if tasks.load(name).in_domain_task]
)
def test_every_domain_of_a_task_can_be_asked_for(name: str) -> None:
    task = tasks.load(name)
    home = tasks.load(task.in_domain_task)
    assert task.domains and set(task.domains) <= set(task.report)
    assert home is not task or next(iter(task.report)) not in task.domains
    assert (home.format, home.metric, home.scorer) == (task.format, task.metric, task.scorer)
