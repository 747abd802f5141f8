"""`xtl data import xtreme`, file by file. Every row here is made up for the tests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.imports import xtreme
from adapters_xtl.data.imports.staging import Report


def parquet(folder: Path, config: str, split: str) -> Path:
    return folder / config / f"{split}-00000-of-00001.parquet"


def rows(folder: Path, config: str, split: str) -> list[dict[str, Any]]:
    return list(pq.read_table(parquet(folder, config, split)).to_pylist())


def features(path: Path) -> dict[str, Any]:
    return dict(json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"])


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def squad(questions: list[tuple[str, str, str, list[tuple[str, int]]]], **more: Any) -> str:
    """SQuAD's JSON from (id, context, question, [(answer, start)])."""
    articles = [
        {
            "paragraphs": [
                {
                    "context": context,
                    "qas": [
                        {
                            "id": identity,
                            "question": question,
                            "answers": [
                                {"text": text, "answer_start": start} for text, start in answers
                            ],
                        },
                    ],
                }
            ],
            **more,
        }
        for identity, context, question, answers in questions
    ]
    return json.dumps({"version": "1", "data": articles})


def import_it(tmp_path: Path, files: dict[str, str | bytes]) -> Report:
    return xtreme.convert(put(tmp_path / "in", files), tmp_path / "out")


def fails(tmp_path: Path, files: dict[str, str | bytes], *words: str) -> list[str]:
    """The lines of the DataError; nothing is left behind."""
    with pytest.raises(DataError) as caught:
        import_it(tmp_path, files)
    for word in words:
        assert word in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    return str(caught.value).split("\n")


TWO = [
    ("a", "Rivers run north here.", "Where to?", [("north", 11)]),
    ("b", "It is late.", "How?", [("late", 6)]),
]
BLANK = [(identity, context, question, [("", 0)]) for identity, context, question, _ in TWO]


def test_questions_of_every_set(tmp_path: Path) -> None:
    report = import_it(
        tmp_path,
        {
            "xquad/xquad.de.json": squad(TWO),
            "xquad/xquad.en.json": squad(BLANK),
            "mlqa/MLQA_V1/dev/dev-context-de-question-de.json": squad(TWO, title="River"),
            "mlqa/MLQA_V1/dev/dev-context-de-question-es.json": squad(TWO),
            "mlqa/MLQA_V1/test/test-context-de-question-de.json": squad(BLANK),
            "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.en.train.json": squad(TWO),
            "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.sw.dev.json": squad(
                [("swahili-7-0", *TWO[0][1:])]
            ),
            "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.ko.dev.json": squad(BLANK),
            "squad/train-v1.1.json": squad(TWO),
            "squad/dev-v1.1.json": squad(TWO[:1]),
        },
    )
    out = tmp_path / "out"
    assert sorted(report.written.items()) == [
        ("google/xtreme/MLQA.de.de/validation-00000-of-00001.parquet", 2),
        ("google/xtreme/XQuAD.de/validation-00000-of-00001.parquet", 2),
        ("google/xtreme/tydiqa/train-00000-of-00001.parquet", 2),
        ("google/xtreme/tydiqa/validation-00000-of-00001.parquet", 1),
        ("rajpurkar/squad/plain_text/train-00000-of-00001.parquet", 2),
        ("rajpurkar/squad/plain_text/validation-00000-of-00001.parquet", 1),
    ]
    assert [
        file for file, reason in report.refused if "answers of all 2 questions are blank" in reason
    ] == [
        "mlqa/MLQA_V1/test/test-context-de-question-de.json",
        "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.ko.dev.json",
        "xquad/xquad.en.json",
    ]
    first = rows(out, "google/xtreme/XQuAD.de", "validation")[0]
    assert first == {
        "id": "a",
        "context": TWO[0][1],
        "question": "Where to?",
        "answers": {"answer_start": [11], "text": ["north"]},
    }
    assert rows(out, "google/xtreme/MLQA.de.de", "validation")[0]["title"] == "River"
    assert [row["id"] for row in rows(out, "google/xtreme/tydiqa", "train")] == [
        "english-a",
        "english-b",
    ]
    assert [row["id"] for row in rows(out, "google/xtreme/tydiqa", "validation")] == ["swahili-7-0"]
    assert not report.counted


def test_repeated_ids_become_unique_and_the_report_says_so(tmp_path: Path) -> None:
    same = [("0", *row[1:]) for row in TWO]
    report = import_it(
        tmp_path, {f"tydiqa/x/tydiqa.goldp.{code}.train.json": squad(same) for code in ("en", "ko")}
    )
    ids = [row["id"] for row in rows(tmp_path / "out", "google/xtreme/tydiqa", "train")]
    assert ids == ["english-0-0", "english-1-0", "korean-0-0", "korean-1-0"]
    assert (
        "tydiqa/x/tydiqa.goldp.en.train.json",
        "questions with the id of an earlier one",
        1,
    ) in report.counted
    assert any("en.train.json: ids repeat" in note for note in report.notes)


def test_tydiqas_whole_train_file_goes_first(tmp_path: Path) -> None:
    whole = [("english-5-0", *TWO[0][1:]), ("korean--8-1", *TWO[1][1:])]
    report = import_it(
        tmp_path,
        {
            "tydiqa/t/tydiqa-goldp-v1.1-train.json": squad(whole),
            "tydiqa/t/tydiqa.goldp.en.train.json": squad(TWO),
        },
    )
    assert [row["id"] for row in rows(tmp_path / "out", "google/xtreme/tydiqa", "train")] == [
        row[0] for row in whole
    ]
    assert any("read instead" in note for note in report.notes)


def test_wrong_offsets_are_written_and_counted(tmp_path: Path) -> None:
    odd = [
        ("a", "One two.", "?", [("two", 4), ("two", 3), ("gone", -1), ("", 0)]),
        ("b", "Three.", "?", []),
    ]
    report = import_it(tmp_path, {"xquad/xquad.hi.json": squad(odd)})
    assert rows(tmp_path / "out", "google/xtreme/XQuAD.hi", "validation")[0]["answers"][
        "answer_start"
    ] == [4, 3, -1, 0]
    assert {what: times for _, what, times in report.counted} == {
        "answers that do not stand at their answer_start": 2,
        "blank answers": 1,
        "questions without an answer": 1,
    }
    assert ("counted", "xquad/xquad.hi.json", 1, "blank answers") in report.rows()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"data": [\n{]}', ["line 2", "no valid JSON"]),
        ("[1]", ["no JSON object with a list 'data'"]),
        ('{"datum": []}', ["no field 'data'; did you mean 'datum'?"]),
        ('{"data": []}', ["no questions"]),
        ('{"data": [3]}', ["an item of 'data' is no object"]),
        (
            squad([("q", "c", "?", [("c", 0)])]).replace(
                '"answer_start": 0', '"answer_start": "0"'
            ),
            ["question q", "'answer_start' is no whole number"],
        ),
        (
            squad([("q", "c", "?", [("c", 0)])]).replace('"question"', '"query"'),
            ["question q", "no field 'question'"],
        ),
        (squad([("q", "\ud800", "?", [("c", 0)])]), ["surrogate"]),
        (squad([("q", "c", "?", [("c", 2**40)])]), ["a value has no place"]),
    ],
)
def test_broken_questions(tmp_path: Path, content: str, words: list[str]) -> None:
    fails(tmp_path, {"xquad/xquad.de.json": content}, "xquad.de.json", *words)


def test_pairs(tmp_path: Path) -> None:
    report = import_it(
        tmp_path,
        {
            "xnli/dev-en.tsv": (
                b'\xef\xbb\xbfIt rains.\tIt is wet.\tentailment\r\n"A ""b"" c"\t\tneutral\r\n'
            ),
            "xnli/dev-sw.tsv": "Mvua.\u2028\tMaji.\tcontradiction",
            "xnli/test-en.tsv": "One.\tTwo.\t\nThree.\tFour.\t \n",
            "xnli/train-en.tsv": "A.\tB.\tneutral\nC.\tD.\tentailment\n",
            "pawsx/dev-fr.tsv": "A\tB\t0\nC\tD\t1\n",
            "pawsx/test-fr.tsv": "A\tB\t0\nC\tD\t0\n",
            "pawsx/dev-sw.tsv": "A\tB\t0\n",
            "lareqa/x.json": "{}",
            "pawsx/notes.txt": "",
        },
    )
    out = tmp_path / "out"
    assert [tuple(row.values()) for row in rows(out, "google/xtreme/XNLI", "validation")] == [
        ("en", "It rains.", "It is wet.", "entailment"),
        ("en", '"A ""b"" c"', "", "neutral"),
        ("sw", "Mvua.\u2028", "Maji.", "contradiction"),
    ]
    assert {what: times for _, what, times in report.counted} == {
        "blank texts": 1,
        "texts in CSV quoting, quotes kept as XTREME's own reader keeps them": 1,
    }
    train = parquet(out, "nyu-mll/multi_nli/default", "train")
    assert features(train)["label"]["names"] == list(tasks.load("mnli").labels)
    assert [row["label"] for row in pq.read_table(train).to_pylist()] == [1, 0]
    refused = dict(report.refused)
    assert refused["xnli/test-en.tsv"] == "the gold is hidden: no row has a label"
    assert refused["pawsx/test-fr.tsv"] == "the gold is hidden: all 2 labels are '0', a placeholder"
    assert "no language 'sw'" in refused["pawsx/dev-sw.tsv"]
    assert "not read: lareqa" in report.notes and "not read: in pawsx, notes.txt" in report.notes


def test_tags(tmp_path: Path) -> None:
    report = import_it(
        tmp_path,
        {
            "panx/dev-sw.tsv": "\n\nAsha\tB-PER\nyupo\tO\n\n\n\tO\nDar\tB-LOC",
            "panx/test-sw.tsv": "Asha\nyupo\n\nDar\n",
            "panx/test-ta.tsv": "Asha\tO\nyupo\tO\n",
            "udpos/dev-yo.tsv": "ilé\tNOUN\r\n\r\n",
        },
    )
    out = tmp_path / "out"
    assert rows(out, "google/xtreme/PAN-X.sw", "validation") == [
        {"tokens": ["Asha", "yupo"], "ner_tags": [1, 0], "langs": ["sw", "sw"]},
        {"tokens": ["", "Dar"], "ner_tags": [0, 5], "langs": ["sw", "sw"]},
    ]
    assert rows(out, "google/xtreme/udpos.Yoruba", "validation") == [
        {"tokens": ["ilé"], "pos_tags": [7]}
    ]
    assert {what: times for _, what, times in report.counted} == {
        "blank lines that end no sentence": 3,
        "empty tokens": 1,
    }
    assert [file for file, _ in report.refused] == ["panx/test-sw.tsv", "panx/test-ta.tsv"]


def copa(label: Any, **more: Any) -> str:
    row = {
        "premise": "It fell.",
        "choice1": "It broke.",
        "choice2": "It flew.",
        "question": "effect",
        "idx": 3,
    }
    return json.dumps({**row, **({} if label is None else {"label": label}), **more}) + "\n"


def test_choices(tmp_path: Path) -> None:
    report = import_it(
        tmp_path,
        {
            "xcopa/val.it.jsonl": copa(0, changed=True) + "\n" + copa(1, changed=False),
            "xcopa/test.it.jsonl": copa(0, changed=False) * 3,
            "xcopa/test-qu.jsonl": copa(0, changed=False) + copa(1, changed=False),
            "xcopa/train-en.jsonl": copa(1),
            "xcopa/val.en.jsonl": copa(0),
            "xcopa/test.en.jsonl": copa(None) * 2,
            "siqa/s/dev.jsonl": (
                '{"context": "c", "question": "q", "answerA": "a", "answerB": "b", "answerC":'
                ' "d"}\n'
            ),
            "siqa/s/dev-labels.lst": "2\n",
        },
    )
    out = tmp_path / "out"
    assert [row["changed"] for row in rows(out, "cambridgeltl/xcopa/it", "validation")] == [
        True,
        False,
    ]
    assert [row["label"] for row in rows(out, "cambridgeltl/xcopa/qu", "test")] == [0, 1]
    assert features(parquet(out, "aps/super_glue/copa", "train"))["label"]["names"] == [
        "choice1",
        "choice2",
    ]
    assert rows(out, "lighteval/siqa/default", "validation")[0]["label"] == "2"
    assert dict(report.refused) == {
        "xcopa/test.en.jsonl": "the gold is hidden: no row has a label",
        "xcopa/test.it.jsonl": "the gold is hidden: all 3 labels are 0, a placeholder",
    }


def test_bitext(tmp_path: Path) -> None:
    report = import_it(
        tmp_path,
        {
            "bucc2018/fr-en.dev.fr": "fr-1\tBonjour.\nfr-2\tMerci.\n",
            "bucc2018/fr-en.dev.en": "en-1\tThanks.\n",
            "bucc2018/fr-en.dev.gold": "fr-2\ten-1\nfr-9\ten-1\n",
            "bucc2018/ru-en.dev.gold": "ru-1\ten-1\n",
            "bucc2018/ru-en.dev.en": "en-1\tYes.\n",
            "bucc2018/fr-en.test.fr": "fr-1\tOui.\n",
            "bucc2018/fr-en.test.en": "en-1\tYes.\n",
            "tatoeba/sw-en.sw": "Ndiyo.\nHapana.\n",
            "tatoeba/sw-en.en": "No.\nYes.\n",
            "tatoeba/af-en.af": "Ja.\n",
            "tatoeba/af-en.en": "Yes.\n",
            "tatoeba/tatoeba.afr-eng.afr": "Ja.\nNee.\n",
            "tatoeba/tatoeba.afr-eng.eng": "Yes.\nNo.\n",
            "tatoeba/ka-en.en": "Yes.\n",
        },
    )
    out = tmp_path / "out"
    assert rows(out, "original/bucc2018/fr-en/dev", "source")[1] == {
        "id": "fr-2",
        "sentence": "Merci.",
    }
    assert rows(out, "original/bucc2018/fr-en/dev", "gold")[0] == {
        "source_id": "fr-2",
        "target_id": "en-1",
    }
    assert rows(out, "google/xtreme/tatoeba.afr", "validation")[1] == {
        "source_sentence": "Nee.",
        "target_sentence": "No.",
        "source_lang": "afr",
        "target_lang": "eng",
    }
    lost = "gold pairs, of 2, that name a sentence which is not there"
    assert report.counted == (("bucc2018/fr-en.dev.gold", lost, 1),)
    refused = dict(report.refused)
    assert set(refused) == {
        "bucc2018/fr-en.test.en",
        "bucc2018/fr-en.test.fr",
        "bucc2018/ru-en.dev.gold",
        "tatoeba/ka-en.en",
        "tatoeba/sw-en.sw",
    }
    assert "incomplete: no ru-en.dev.ru;" in refused["bucc2018/ru-en.dev.gold"]
    assert (
        "sorted, not aligned" in refused["tatoeba/sw-en.sw"]
        and "no ka-en.ka" in refused["tatoeba/ka-en.en"]
    )


def test_every_problem_of_every_file_is_named_at_once(tmp_path: Path) -> None:
    found = fails(
        tmp_path,
        {
            "xnli/dev-en.tsv": "A\tB\tneutral\nA\tB\nA\nA\tB\tneural\nA\tB\tneutral\tC\n",
            "xnli/dev-de.tsv": b"A\tB\tneutral\nA\t\xff\tneutral\n",
            "pawsx/dev-de.tsv": "\n" * 8 + "A\tB\t1\n",
            "panx/dev-sw.tsv": "Asha\tB-PER\nyupo\tI-PERS\nx\ny\tO\tO\n",
            "udpos/dev-ta.tsv": "",
            "xcopa/val-it.jsonl": (
                copa(2)
                + "{\n[]\n"
                + copa([0])
                + copa(True)
                + copa(0, question="why")
                + copa(0, idx="1")
            ),
            "xcopa/val-sw.jsonl": copa(0).replace("premise", "premises") + copa(0, changed=1),
            "bucc2018/zh-en.dev.zh": "zh-1\tA\nzh-1\tB\n",
            "bucc2018/zh-en.dev.en": "en-1\tA\n",
            "bucc2018/zh-en.dev.gold": "zh-1 en-1\n",
            "xquad/a/xquad.de.json": squad(TWO),
            "xquad/b/xquad.de.json": squad(TWO),
        },
    )
    root = tmp_path / "in"
    for wanted in (
        "xnli/dev-en.tsv, line 2: no label, though other rows have one",
        "xnli/dev-en.tsv, line 3: 1 columns instead of 3",
        "xnli/dev-en.tsv, line 4: unknown label 'neural'; did you mean 'neutral'?",
        "xnli/dev-en.tsv, line 5: 4 columns",
        "xnli/dev-de.tsv, line 2: no valid UTF-8 (byte 0xff)",
        "pawsx/dev-de.tsv, line 5: 1 columns",
        "pawsx/dev-de.tsv: and 3 more",
        "panx/dev-sw.tsv, line 2: unknown tag 'I-PERS'; did you mean 'I-PER'?",
        "panx/dev-sw.tsv, line 3: no label",
        "panx/dev-sw.tsv, line 4: 3 columns",
        "udpos/dev-ta.tsv: no rows",
        "xcopa/val-it.jsonl, line 1: unknown label 2",
        "xcopa/val-it.jsonl, line 2: no valid JSON",
        "xcopa/val-it.jsonl, line 3: no JSON object",
        "xcopa/val-it.jsonl, line 4: unknown label [0]",
        "xcopa/val-it.jsonl, line 5: unknown label True",
        "xcopa/val-it.jsonl: and 2 more",
        "xcopa/val-sw.jsonl, line 1: no field 'premise'; did you mean 'premises'?",
        "xcopa/val-sw.jsonl, line 2: changed is 1",
        "bucc2018/zh-en.dev.zh: id zh-1 is there twice",
        "bucc2018/zh-en.dev.gold, line 1: 1 columns instead of 2",
        "xquad/b/xquad.de.json:",
    ):
        assert any(line.startswith(f"{root}/{wanted}") for line in found), wanted
    assert not any("line 6" in line or "line 7" in line for line in found)


def test_a_space_between_token_and_tag_is_told_from_hidden_gold(tmp_path: Path) -> None:
    lines = fails(
        tmp_path, {"panx/dev-de.tsv": "\nMara B-PER\nwohnt O\n\nhier O\n"}, "dev-de.tsv, line 2"
    )
    assert len(lines) == 1 and "space" in lines[0] and "hidden" not in lines[0]


def test_tokens_with_wikianns_prefix_are_counted(tmp_path: Path) -> None:
    text = "en:Mara\tB-PER\nen:reads\tO\n\nen:\tO\nplain\tO\nde:x\tO\n"
    report = import_it(tmp_path, {"panx/dev-en.tsv": text})
    counted = [entry for entry in report.counted if "'en:'" in entry[1]]
    assert counted == [("panx/dev-en.tsv", counted[0][1], 3)]
    kept = rows(tmp_path / "out/google/xtreme", "PAN-X.en", "validation")
    assert kept[0]["tokens"] == ["en:Mara", "en:reads"]


@pytest.mark.parametrize(
    "name", ["squad/train-v2.0.json", "tydiqa/notes.txt", "bucc2018/a/x.zip", "siqa/dev.lst"]
)
def test_files_that_are_not_read_are_named(tmp_path: Path, name: str) -> None:
    report = import_it(tmp_path, {name: "{}"})
    folder, _, rest = name.partition("/")
    assert not report.written and report.notes == (f"not read: in {folder}, {rest}",)


def test_a_fifo_is_named_and_never_opened(tmp_path: Path) -> None:
    (tmp_path / "in/squad").mkdir(parents=True)
    os.mkfifo(tmp_path / "in/squad/dev-v1.1.json")
    with pytest.raises(DataError, match=r"dev-v1\.1\.json"):
        xtreme.convert(tmp_path / "in", tmp_path / "out")
