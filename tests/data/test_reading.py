"""Rows → examples: real rows whole and rightly labelled, bad rows found, named and never lost in
silence.
"""

from __future__ import annotations

import csv
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters_xtl import formats, tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.locate import RowFiles, locate, locate_report, locate_training
from adapters_xtl.data.reading import (
    Reader,
    count_language_rows,
    read_report,
    read_training,
)
from adapters_xtl.data.repository import MissingRows
from adapters_xtl.data.sources import Mirror
from adapters_xtl.data.splits import CheckedSplit
from adapters_xtl.tasks import Task
from tests.data.mirrors import MNLI, PANX, SQUAD, mirror_of, nli, squad, tagged

NLI = ["entailment", "neutral", "contradiction"]
NAMES = [name for name in tasks.names() if not tasks.load(name).members]


# -- the mirror of real rows
# ---------------------------------------------------------------------------------------


def contents(mirror: Path) -> dict[tuple[str, str, str], int]:
    """(data set, config, split) → rows, as the mirror's own list has them; {} where it has none."""
    path = mirror / "CONTENTS.tsv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        return {
            (row["repo"], row["config"], row["split"]): int(row["rows"])
            for row in csv.DictReader(file, delimiter="\t")
        }


def _listed(listed: Mapping[tuple[str, str, str], int], located: RowFiles) -> int:
    """Rows by the footers of the files; asserts that the mirror's list, where it has them, says the
    same.
    """
    found = 0
    for part, files in located.files.items():
        rows = sum(pq.read_metadata(file.fetch()).num_rows for file in files)
        folder = f"{located.rows.repo}/{located.rows.config.split('/')[0]}"
        for key in ((located.rows.repo, located.rows.config, part), (folder, "dev", part)):
            assert listed.get(key, rows) == rows
        found += rows
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_split_of_the_mirror_loads_whole(name: str, mirror: Path) -> None:
    task, listed, reader, source = tasks.load(name), contents(mirror), Reader(), Mirror(mirror)
    for split, rows_of in task.report.items():
        found, lacking = locate_report(source, task, split, task.all_languages)
        parts, without = read_report(reader, task, found)
        assert set(parts) | set(lacking) | set(without) == set(task.all_languages)
        for language in lacking:
            for rows in (
                form.named(task.code(language))
                for each in rows_of
                for form in (each, *each.instead)
            ):
                assert len(rows_of) > 1 or (rows.repo, rows.config, rows.split) not in listed, (
                    f"{rows} is there"
                )
        several: dict[str, int] = {}
        for language, part in parts.items():
            whole = sum(_listed(listed, located) for located in found[language])
            if found[language][0].rows.language:
                several[found[language][0].rows.repo] = (
                    several.get(found[language][0].rows.repo, whole) - part.rows
                )
            elif found[language][0].rows.only:
                assert 0 < part.rows < whole
            else:
                assert part.rows == whole
            _nothing_lost(part)
        assert not any(several.values()), "the languages of one file add up to the file"
    for rows in (*task.train, *task.select, *task.select_xtreme):
        try:
            located = locate(source, rows, task.code("en"))
        except MissingRows:
            continue
        part = reader.read(task, [located], split="train", language="en", scoring=False)
        assert part.rows == (
            _listed(listed, located)
            if not rows.language
            else count_language_rows([located], task.code("en"))
        )
        _nothing_lost(part)


def _nothing_lost(part: CheckedSplit) -> None:
    assert len(part.examples) + sum(part.faults.values()) == part.rows, "nothing is lost in silence"
    assert sum(part.faults.values()) <= 0.02 * part.rows, (
        f"of real rows few are unfit: {part.faults}"
    )


def _independent(path: Path, column: str) -> list[Any]:
    """A class column decoded without our code."""
    table = pq.read_table(path)
    feature = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"][column]
    names = feature.get("feature", feature)["names"]
    values = table.column(column).to_pylist()
    return [
        [names[tag] for tag in value] if isinstance(value, list) else names[value]
        for value in values
    ]


@pytest.mark.parametrize(
    ("name", "column", "key"),
    [
        ("mnli", "label", "label"),
        ("qqp", "label", "label"),
        ("panx", "ner_tags", "tags"),
        ("udpos", "pos_tags", "tags"),
    ],
)
def test_labels_are_those_of_the_file(name: str, column: str, key: str, mirror: Path) -> None:
    task = tasks.load(name)
    split = next(iter(task.report))
    found, _ = locate_report(Mirror(mirror), task, split, task.all_languages)
    parts, _ = read_report(Reader(), task, found)
    for language in list(parts)[:3]:
        path = found[language][0].files[found[language][0].rows.split][0].fetch()
        assert [example[key] for example in parts[language].examples] == _independent(path, column)


def test_texts_and_golds_are_those_of_the_file(mirror: Path) -> None:
    task = tasks.load("xnli")
    found, _ = locate_report(Mirror(mirror), task, "validation", ("de", "zh"))
    parts, _ = read_report(Reader(), task, found)
    path = next(iter(found["de"][0].files.values()))[0].fetch()
    for language in ("de", "zh"):
        rows = [row for row in pq.read_table(path).to_pylist() if row["language"] == language]
        wanted = [(row["sentence1"], row["sentence2"], row["gold_label"]) for row in rows]
        assert [(e["text"], e["pair"], e["label"]) for e in parts[language].examples] == wanted


@pytest.mark.parametrize("name", [name for name in NAMES if tasks.load(name).train])
@pytest.mark.parametrize("protocol", ["clean", "xtreme"])
def test_training_of_the_mirror(name: str, protocol: str, mirror: Path) -> None:
    task, source = tasks.load(name), Mirror(mirror)
    if protocol == "xtreme" and not (task.select_xtreme or task.drop):
        pytest.skip(f"{name}: the same under both protocols")
    try:
        files = locate_training(source, task, protocol, tasks.load)
    except MissingRows:
        pytest.skip(f"the mirror cannot train {name}")
    rows_read = read_training(Reader(), task, files, tasks.load)
    train, select = rows_read.train, rows_read.select
    again = read_training(Reader(), task, files, tasks.load)
    assert (train.examples, select.examples) == (
        again.train.examples,
        again.select.examples,
    ), "the same rows every time"
    if not files.select:
        held = {_content(example) for example in select.examples}
        assert not held & {_content(example) for example in train.examples}, (
            "no passage or text on both sides"
        )
        pool = [
            example
            for example in (*train.examples, *select.examples)
            if not task.ordered or example["stage"] == 1
        ]
        held_out = len(select.examples) + sum(rows_read.dropped.values())
        assert min(500, len(pool) // 10) <= held_out <= min(500, len(pool) // 10) + 40
        early = sum(len(split.examples) for split in rows_read.earlier)
        assert len(train.examples) + held_out + early == train.rows - sum(train.faults.values())


def _content(example: Mapping[str, Any]) -> str:
    if "answers" in example:
        return str(example["context"])
    return json.dumps(
        [example.get(key) for key in ("text", "pair", "context", "choices", "words")],
        ensure_ascii=False,
    )


# -- small mirrors of our own
# ----------------------------------------------------------------------------------------


def one(
    root: Path,
    path: str,
    columns: Any,
    name: str,
    *,
    scoring: bool = False,
    strict: bool = False,
    labels: Mapping[str, list[str]] | None = None,
) -> CheckedSplit:
    """The part that a task's first train (or report) rows come to."""
    task = tasks.load(name)
    source = mirror_of(root, {path: columns}, labels)
    rows = next(iter(task.report.values()))[0] if scoring or not task.train else task.train[0]
    located = locate(source, rows, task.code("en"))
    return Reader(strict=strict).read(task, [located], split="", language="en", scoring=scoring)


def changed(rows: Mapping[str, list[Any]], **cells: Mapping[int, Any]) -> dict[str, list[Any]]:
    """Rows with some cells replaced: column → {row: value}."""
    return {
        column: [cells.get(column, {}).get(number, value) for number, value in enumerate(values)]
        for column, values in rows.items()
    }


def test_shards_and_text_files_read_alike(tmp_path: Path) -> None:
    task, rows = tasks.load("mnli"), nli(60)
    halves = {
        f"nyu-mll/multi_nli/data/train-{n:05d}-of-00002.parquet": {
            key: values[30 * n : 30 * n + 30] for key, values in rows.items()
        }
        for n in range(2)
    }
    records = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    forms: dict[str, Mirror] = {"shards": mirror_of(tmp_path / "shards", halves)}
    for form in ("jsonl", "csv", "tsv"):
        path = tmp_path / form / "nyu-mll/multi_nli/default" / f"train.{form}"
        path.parent.mkdir(parents=True)
        if form == "jsonl":
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
        elif form == "tsv":
            lines = [list(rows), *(map(str, record.values()) for record in records)]
            path.write_text("".join("\t".join(line) + "\n" for line in lines))
        else:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows))
                writer.writeheader()
                writer.writerows(records)
        forms[form] = Mirror(tmp_path / form)
    texts = []
    for source in forms.values():
        located = locate(source, task.train[0])
        assert count_language_rows([located], "en") == 60
        part = Reader(strict=True).read(
            task, [located], split="train", language="en", scoring=False
        )
        texts.append([(e["id"], e["text"], e["pair"], e["label"]) for e in part.examples])
    assert len(texts[0]) == 60 and all(text == texts[0] for text in texts[1:])


ENCODINGS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "large_string": lambda table: _cast(
        table, {"premise": pa.large_string(), "hypothesis": pa.large_string()}
    ),
    "dictionary": lambda table: _set(table, "premise", table["premise"].dictionary_encode()),
    "int8": lambda table: _cast(table, {"label": pa.int8()}),
    "uint8": lambda table: _cast(table, {"label": pa.uint8()}),
    "uint64": lambda table: _cast(table, {"label": pa.uint64()}),
    "names": lambda table: _set(
        table, "label", pa.array([NLI[n] for n in table["label"].to_pylist()])
    ),
    "named dictionary": lambda table: _set(
        table, "label", pa.array([NLI[n] for n in table["label"].to_pylist()]).dictionary_encode()
    ),
    "many chunks": lambda table: pa.concat_tables(
        [table.slice(n, 1) for n in range(table.num_rows)]
    ),
}


def _cast(table: pa.Table, kinds: Mapping[str, pa.DataType]) -> pa.Table:
    for column, kind in kinds.items():
        table = _set(table, column, table[column].cast(kind))
    return table


def _set(table: pa.Table, column: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, values)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_a_column_is_stored_as_does_not_matter(tmp_path: Path, encoding: str) -> None:
    table = ENCODINGS[encoding](pa.table(nli()))
    found = one(tmp_path, MNLI.format("train"), table, "mnli", strict=True)
    assert [example["label"] for example in found.examples] == [NLI[n % 3] for n in range(30)]
    assert found.examples[7]["text"] == "premise 7"


LISTS = [
    pa.list_(pa.int8()),
    pa.large_list(pa.int64()),
    pa.list_(pa.string()),
    pa.large_list(pa.large_string()),
    pa.list_(pa.dictionary(pa.int32(), pa.string())),
]


@pytest.mark.parametrize("kind", LISTS, ids=str)
def test_what_a_tag_column_is_stored_as_does_not_matter(tmp_path: Path, kind: pa.DataType) -> None:
    names = list(tasks.load("panx").labels)
    text = not pa.types.is_integer(kind.value_type)
    tags = [[0, 0, 5], [], None, [1, 2, 0]]
    values = [tag if tag is None or not text else [names[n] for n in tag] for tag in tags]
    if pa.types.is_dictionary(kind.value_type):
        flat = pa.array([name for value in values for name in value or ()]).dictionary_encode()
        column = pa.ListArray.from_arrays(
            pa.array([0, 3, 3, 3, 6], pa.int32()), flat, mask=pa.array([False, False, True, False])
        )
    else:
        column = pa.array(values, kind)
    table = pa.table({"tokens": [["a", "b", "c"], [], ["d"], ["e", "f", "g"]], "ner_tags": column})
    part = one(tmp_path, PANX.format("en", "train"), table, "panx")
    assert [example["tags"] for example in part.examples] == [
        ["O", "O", "B-LOC"],
        ["B-PER", "I-PER", "O"],
    ]
    assert part.faults == {"no words": 1, "no gold tags": 1}


def test_class_names_are_mapped_by_name(tmp_path: Path) -> None:
    """Class indices mean what the file's own names say, whatever order the task has them in."""
    part = one(
        tmp_path,
        MNLI.format("train"),
        nli(),
        "mnli",
        strict=True,
        labels={"label": ["contradiction", "entailment", "neutral"]},
    )
    assert [e["label"] for e in part.examples[:3]] == ["contradiction", "entailment", "neutral"]
    names = ["B-LOC", "I-LOC", "O"]
    part = one(
        tmp_path / "tags",
        PANX.format("en", "train"),
        {"tokens": [["Ulm", "x"]], "ner_tags": [[0, 2]]},
        "panx",
        strict=True,
        labels={"ner_tags": names},
    )
    assert part.examples[0]["tags"] == ["B-LOC", "O"]


def test_answers_as_a_list_of_pairs_are_answers(tmp_path: Path) -> None:
    rows = squad(3)
    rows["answers"] = [[{"text": str(n), "answer_start": 14}] for n in range(3)]
    part = one(tmp_path, SQUAD.format("train"), rows, "squad1", strict=True)
    assert part.examples[2]["answers"] == {"text": ["2"], "answer_start": [14]}


# -- what is structurally wrong is one clear error
# ---------------------------------------------------------------------

BROKEN: dict[str, tuple[str, str, Any, str]] = {
    "wrong type": (
        "mnli",
        MNLI,
        {**nli(), "premise": list(range(30))},
        "column 'premise' is int64, expected string",
    ),
    "float class": (
        "mnli",
        MNLI,
        {**nli(), "label": [0.5] * 30},
        "column 'label' is double, expected class names",
    ),
    "unknown index": (
        "mnli",
        MNLI,
        changed(nli(), label={17: 3}),
        "'label', row 17: unknown class 3 (0 = entailment",
    ),
    "negative index": (
        "mnli",
        MNLI,
        changed(nli(), label={4: -2}),
        "column 'label', row 4: unknown class -2",
    ),
    "unknown name": (
        "mnli",
        MNLI,
        {**nli(), "label": ["neutral"] * 29 + ["entailement"]},
        "column 'label', row 29: unknown class 'entailement'; did you mean 'entailment'?",
    ),
    "all -1": ("mnli", MNLI, {**nli(), "label": [-1] * 30}, "no gold at all"),
    "all blank": ("mnli", MNLI, {**nli(), "label": [""] * 30}, "no gold at all"),
    "all null": (
        "mnli",
        MNLI,
        {**nli(), "label": pa.array([None] * 30, pa.int64())},
        "'label' is null in every row",
    ),
    "null type": (
        "mnli",
        MNLI,
        {**nli(), "label": [None] * 30},
        "'label' is null in every row: these labels are hidden",
    ),
    "no rows": ("mnli", MNLI, pa.table(nli()).slice(0, 0), "no rows"),
    "missing column": (
        "mnli",
        MNLI,
        {("premisse" if key == "premise" else key): value for key, value in nli().items()},
        "no column 'premise'; did you mean 'premisse'?",
    ),
    "unknown tag": (
        "panx",
        PANX.format("en", "{}"),
        {"tokens": [["a"], ["b", "c"]], "ner_tags": [[0], [1, 7]]},
        "column 'ner_tags', row 1: unknown class 7",
    ),
    "flat tags": (
        "panx",
        PANX.format("en", "{}"),
        {"tokens": ["a"], "ner_tags": [0]},
        "column 'tokens' is string, expected lists of strings",
    ),
    "answers as text": (
        "squad1",
        SQUAD,
        {**squad(), "answers": ["1"] * 30},
        "column 'answers' is string, expected {text: list of strings, answer_start: list of ints}",
    ),
    "offsets as text": (
        "squad1",
        SQUAD,
        {**squad(), "answers": [{"text": ["a"], "answer_start": ["1"]}] * 30},
        "expected {text",
    ),
    "no answers": (
        "squad1",
        SQUAD,
        {**squad(), "answers": [{"text": [], "answer_start": []}] * 30},
        "not one usable row",
    ),
    "choice without gold": (
        "csqa",
        "tau/commonsense_qa/data/{}-00000-of-00001.parquet",
        {
            "id": ["a", "b"],
            "question": ["q", "r"],
            "answerKey": ["", ""],
            "choices": [{"label": ["A", "B"], "text": ["x", "y"]}] * 2,
        },
        "not one usable row: 2 × no gold label",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_structural_faults(tmp_path: Path, case: str) -> None:
    name, path, rows, said = BROKEN[case]
    with pytest.raises(DataError) as caught:
        one(tmp_path, path.format("train"), rows, name)
    message = str(caught.value)
    assert said in message and (
        path.format("train") in message or "no usable" in message or "not one" in message
    ), message


def test_hidden_gold_is_refused(tmp_path: Path) -> None:
    """XTREME hides XCOPA's gold as 0 throughout, and other gold as a blank."""
    rows = {
        "premise": [f"p{n}" for n in range(60)],
        "choice1": ["a"] * 60,
        "choice2": ["b"] * 60,
        "question": ["cause"] * 60,
        "label": [0] * 60,
        "idx": list(range(60)),
    }
    source = mirror_of(tmp_path, {"cambridgeltl/xcopa/it/validation-00000-of-00001.parquet": rows})
    found, _ = locate_report(source, tasks.load("xcopa"), "validation", ("it",))
    with pytest.raises(DataError, match="hidden"):
        read_report(Reader(), tasks.load("xcopa"), found)
    rows = {
        "language": ["de"] * 9,
        "sentence1": ["a"] * 9,
        "sentence2": ["b"] * 9,
        "gold_label": [""] * 9,
    }
    source = mirror_of(tmp_path, {"google/xtreme/XNLI/test-00000-of-00001.parquet": rows})
    found, _ = locate_report(source, tasks.load("xnli"), "test", ("de",))
    with pytest.raises(DataError, match="hidden"):
        read_report(Reader(), tasks.load("xnli"), found)


def test_files_that_are_no_parquet(tmp_path: Path) -> None:
    good = tmp_path / "good" / MNLI.format("train")
    mirror_of(tmp_path / "good", {MNLI.format("train"): nli(300)})
    whole = good.read_bytes()
    for number, data in enumerate(
        (b"", whole[: len(whole) // 2], whole[:-4], b"PAR1" + b"\0" * 80 + b"PAR1", b"<html>")
    ):
        root = tmp_path / str(number)
        (root / MNLI.format("train")).parent.mkdir(parents=True)
        (root / MNLI.format("train")).write_bytes(data)
        task = tasks.load("mnli")
        located = locate(Mirror(root), task.train[0])
        with pytest.raises(DataError, match=r"train-00000-of-00001\.parquet"):
            Reader().read(task, [located], split="", language="en", scoring=False)
        with pytest.raises(DataError, match=r"train-00000-of-00001\.parquet"):
            count_language_rows([located], "en")


def test_damaged_bytes_are_an_error_or_rows_never_a_crash(tmp_path: Path) -> None:
    mirror_of(tmp_path, {MNLI.format("train"): nli(200)})
    path, task, draw = tmp_path / MNLI.format("train"), tasks.load("mnli"), random.Random(5)
    whole = path.read_bytes()
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 4, 40))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            Reader().read(
                task,
                [locate(Mirror(tmp_path), task.train[0])],
                split="",
                language="en",
                scoring=False,
            )
        except DataError:
            refused += 1
    assert refused > 75


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    values = pa.StringArray.from_buffers(
        2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")
    )
    with pytest.raises(DataError, match="column 'premise' is damaged"):
        one(
            tmp_path,
            MNLI.format("train"),
            pa.table({"premise": values, "hypothesis": ["x", "y"], "label": [0, 1]}),
            "mnli",
        )


def test_all_problems_of_a_file_and_of_a_request_come_at_once(tmp_path: Path) -> None:
    rows = changed(nli(), label={3: 9})
    del rows["hypothesis"]
    source = mirror_of(
        tmp_path,
        {
            MNLI.format("train"): rows,
            MNLI.format("validation_matched"): {**nli(), "premise": [1] * 30},
        },
    )
    task = tasks.load("mnli")
    with pytest.raises(DataError) as caught:
        read_training(
            Reader(), task, locate_training(source, task, "clean", tasks.load), tasks.load
        )
    lines = str(caught.value).split("\n")
    assert len(lines) == 3 and sum("train-00000" in line for line in lines) == 2


# -- single bad rows are left out, counted and named
# -------------------------------------------------------------------

LONG = " ".join(f"w{n}" for n in range(10_000))
ZERO = "\u200b\u200c\ufeff"
ROWS: dict[str, tuple[str, str, dict[str, list[Any]], dict[str, int], int]] = {
    # case: task, path, rows, faults of training, rows that evaluation keeps all the same
    "null text": (
        "mnli",
        MNLI,
        changed(nli(), premise={2: None}, hypothesis={3: None}),
        {"no text": 1, "no pair": 1},
        0,
    ),
    "empty text": ("mnli", MNLI, changed(nli(), premise={2: "", 3: "  \t"}), {"empty text": 2}, 2),
    "zero width": (
        "mnli",
        MNLI,
        changed(nli(), premise={2: ZERO, 3: f"{ZERO}word"}),
        {"empty text": 1},
        1,
    ),
    "some -1": ("mnli", MNLI, changed(nli(), label={0: -1, 7: -1}), {"no gold label": 2}, 0),
    "null label": ("mnli", MNLI, changed(nli(), label={5: None}), {"no gold label": 1}, 0),
    "long": ("mnli", MNLI, changed(nli(), premise={5: LONG}), {}, 0),
    "null word": (
        "panx",
        PANX,
        changed(tagged(), tokens={1: ["a", None, "c"]}),
        {"a word is null": 1},
        0,
    ),
    "null tag": (
        "panx",
        PANX,
        changed(tagged(), ner_tags={1: [0, None, 0]}),
        {"no gold tags": 1},
        0,
    ),
    "null list": (
        "panx",
        PANX,
        changed(tagged(), tokens={1: None}, ner_tags={2: None}),
        {"no words": 1, "no gold tags": 1},
        0,
    ),
    "lengths": (
        "panx",
        PANX,
        changed(tagged(), ner_tags={1: [0, 0], 2: [0] * 4}),
        {"3 words but 2 tags": 1, "3 words but 4 tags": 1},
        0,
    ),
    "empty list": (
        "panx",
        PANX,
        changed(tagged(), tokens={1: []}, ner_tags={1: []}),
        {"no words": 1},
        0,
    ),
    "empty word": ("panx", PANX, changed(tagged(), tokens={1: ["", ZERO, "x"]}), {}, 0),
    "long sentence": (
        "panx",
        PANX,
        changed(tagged(), tokens={1: LONG.split()}, ner_tags={1: [0] * 10_000}),
        {},
        0,
    ),
    "offset": (
        "squad1",
        SQUAD,
        changed(squad(), answers={4: {"text": ["4"], "answer_start": [0]}}),
        {"answer does not occur at its offset, but elsewhere": 1},
        1,
    ),
    "far offset": (
        "squad1",
        SQUAD,
        changed(squad(), answers={4: {"text": ["4"], "answer_start": [10**6]}}),
        {"answer does not occur at its offset, but elsewhere": 1},
        1,
    ),
    "before the start": (
        "squad1",
        SQUAD,
        changed(squad(), answers={4: {"text": ["."], "answer_start": [-1]}}),
        {"answer does not occur at its offset, but elsewhere": 1},
        1,
    ),
    "absent": (
        "squad1",
        SQUAD,
        changed(squad(), answers={4: {"text": ["elephant"], "answer_start": [0]}}),
        {"answer does not occur in the context": 1},
        1,
    ),
    "composed": (
        "squad1",
        SQUAD,
        changed(
            squad(),
            context={4: "Das Cafe\u0301 ist zu."},
            answers={4: {"text": ["Café"], "answer_start": [4]}},
        ),
        {"answer does not occur in the context (it does after NFC)": 1},
        1,
    ),
    "null answer": (
        "squad1",
        SQUAD,
        changed(squad(), answers={4: {"text": [None], "answer_start": [0]}}),
        {"an answer is null": 1},
        0,
    ),
    "null answers": ("squad1", SQUAD, changed(squad(), answers={4: None}), {"no answers": 1}, 0),
    "no answers": (
        "squad1",
        SQUAD,
        changed(squad(), answers={4: {"text": [], "answer_start": []}}),
        {"no gold answer": 1},
        0,
    ),
    "half an answer": (
        "squad1",
        SQUAD,
        changed(squad(), answers={4: {"text": ["4", "5"], "answer_start": [14]}}),
        {"2 answer texts for 1 offsets": 1},
        0,
    ),
    "blank and null": (
        "squad1",
        SQUAD,
        changed(squad(), question={4: ""}, answers={4: {"text": [None], "answer_start": [0]}}),
        {"an answer is null": 1},
        0,
    ),
    "blank question": (
        "squad1",
        SQUAD,
        changed(squad(), question={4: " "}),
        {"empty question": 1},
        1,
    ),
    "same row twice": (
        "squad1",
        SQUAD,
        {key: [*values, values[3]] for key, values in squad().items()},
        {"duplicated id": 1},
        0,
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_bad_rows_of_training_are_left_out_and_counted(tmp_path: Path, case: str) -> None:
    name, path, rows, faults, _ = ROWS[case]
    path = path.format("en", "train") if name == "panx" else path.format("train")
    part = one(tmp_path, path, rows, name)
    total = len(next(iter(rows.values())))
    assert dict(part.faults) == faults and part.rows == total and not part.kept
    assert len(part.examples) == total - sum(faults.values())
    assert len(part.places) == sum(faults.values())
    assert all(f"{path}: row " in place for place, _ in part.places)
    if faults:
        with pytest.raises(DataError) as caught:
            one(tmp_path, path, rows, name, strict=True)
        assert "--strict" in str(caught.value) and part.places[0][0] in str(caught.value)


@pytest.mark.parametrize("case", ROWS)
def test_evaluation_keeps_what_can_be_scored(tmp_path: Path, case: str) -> None:
    name, path, rows, faults, kept = ROWS[case]
    path = (
        PANX.format("en", "validation")
        if name == "panx"
        else (path.format("validation_matched") if name == "mnli" else path.format("validation"))
    )
    part = one(tmp_path, path, rows, name, scoring=True)
    assert (
        sum(part.kept.values()) == kept and sum(part.faults.values()) == sum(faults.values()) - kept
    )
    assert len(part.examples) == len(next(iter(rows.values()))) - sum(part.faults.values())
    for example in part.examples:
        if name == "squad1":
            assert example["answers"]["text"] and None not in example["answers"]["text"]
        if name == "panx":
            assert len(example["words"]) == len(example["tags"])


def test_the_first_bad_row_is_named_by_its_number(tmp_path: Path) -> None:
    part = one(tmp_path, MNLI.format("train"), changed(nli(), premise={17: None}), "mnli")
    assert part.places == [(f"{tmp_path}/{MNLI.format('train')}: row 17", "no text")]


def test_a_question_whose_id_is_taken_is_scored_under_another(tmp_path: Path) -> None:
    rows = {
        key: [*values, *other]
        for (key, values), other in zip(squad(3).items(), squad(1, 40).values(), strict=True)
    }
    rows["id"][3] = "q1"
    for scoring in (True, False):
        part = one(
            tmp_path,
            SQUAD.format("validation" if scoring else "train"),
            rows,
            "squad1",
            scoring=scoring,
        )
        assert [example["id"] for example in part.examples] == ["q0", "q1", "q2", "q1#3"]
        assert part.kept == {"duplicated id": 1} and not part.faults


def test_ids_of_shards_do_not_hide_each_other(tmp_path: Path) -> None:
    rows = {"source_sentence": ["a", "b"], "target_sentence": ["c", "d"]}
    source = mirror_of(
        tmp_path,
        {f"google/xtreme/tatoeba.deu/validation-0000{n}-of-00002.parquet": rows for n in range(2)},
    )
    found, _ = locate_report(source, tasks.load("tatoeba"), "validation", ("de",))
    assert (
        len(read_report(Reader(strict=True), tasks.load("tatoeba"), found)[0]["de"].examples) == 4
    )


def test_bucc_sentences_have_one_id_each(tmp_path: Path) -> None:
    side = {"id": ["s1", "s2", "s2"], "sentence": ["a", "b", "c"]}
    gold = {"source_id": ["s1"], "target_id": ["s2"]}
    folder = "original/bucc2018/de-en/dev/{}-00000-of-00001.parquet"
    source = mirror_of(
        tmp_path,
        {
            folder.format(part): gold if part == "gold" else side
            for part in ("source", "target", "gold")
        },
    )
    found, _ = locate_report(source, tasks.load("bucc"), "validation", ("de",))
    part = read_report(Reader(), tasks.load("bucc"), found)[0]["de"]
    assert (
        part.faults == {"duplicated id": 2}
        and [e["part"] for e in part.examples].count("source") == 2
    )


def test_what_fails_in_one_language_does_not_hide_the_others(tmp_path: Path) -> None:
    rows = {"de": tagged(), "fr": {"tokens": [["a"]]}, "es": {"ner_tags": [[0]]}}
    source = mirror_of(
        tmp_path, {PANX.format(code, "validation"): columns for code, columns in rows.items()}
    )
    task = tasks.load("panx")
    found, lacking = locate_report(source, task, "validation", ("de", "fr", "es", "ru"))
    assert list(lacking) == ["ru"]
    with pytest.raises(DataError) as caught:
        read_report(Reader(), task, found)
    assert [line.split("PAN-X.")[1][:2] for line in str(caught.value).split("\n")] == ["fr", "es"]


# -- files of several languages
# ------------------------------------------------------------------------------------


def _xnli(root: Path, languages: list[Any]) -> Mirror:
    count = len(languages)
    rows = {
        "language": languages,
        "sentence1": [f"s{n}" for n in range(count)],
        "sentence2": ["t"] * count,
        "gold_label": ["neutral"] * count,
    }
    return mirror_of(root, {"google/xtreme/XNLI/validation-00000-of-00001.parquet": rows})


def test_one_file_of_several_languages(tmp_path: Path) -> None:
    task = tasks.load("xnli")
    found, lacking = locate_report(
        _xnli(tmp_path, ["de", "zh", "de", "zh", "de"]), task, "validation", ("de", "sw", "zh")
    )
    assert not lacking, "only its rows tell"
    parts, lacking = read_report(Reader(strict=True), task, found)
    assert {code: [e["text"] for e in part.examples] for code, part in parts.items()} == {
        "de": ["s0", "s2", "s4"],
        "zh": ["s1", "s3"],
    }
    assert "no rows of language 'sw'; it holds de, zh" in lacking["sw"]


def test_rows_of_no_language_are_counted_once(tmp_path: Path) -> None:
    task, reader = tasks.load("xnli"), Reader()
    found, _ = locate_report(
        _xnli(tmp_path, ["de", None, "zh", "", "de"]), task, "validation", ("de", "zh")
    )
    parts, _ = read_report(reader, task, found)
    assert (
        parts["de"].faults == {"no language": 2}
        and parts["de"].rows == 4
        and not parts["zh"].faults
    )
    assert sum(part.rows for part in parts.values()) == 5
    with pytest.raises(DataError, match="no language"):
        read_report(Reader(strict=True), task, found)


def test_tydiqas_languages_are_told_by_their_ids(tmp_path: Path) -> None:
    rows = {
        key: a + b + c
        for key, a, b, c in zip(
            squad(1),
            squad(30, prefix="english-").values(),
            squad(30, 40, prefix="arabic-").values(),
            squad(1, prefix="stray").values(),
            strict=True,
        )
    }
    path = "google/xtreme/tydiqa/{}-00000-of-00001.parquet"
    source = mirror_of(tmp_path, {path.format("train"): rows})
    task = tasks.load("tydiqa")
    files = locate_training(source, task, "clean", tasks.load)
    rows = read_training(Reader(), task, files, tasks.load)
    train, select = rows.train, rows.select
    assert (
        len(train.examples) == 27
        and len(select.examples) == 3
        and count_language_rows(files.train, "english") == 30
    )
    assert all(
        example["id"].startswith("english-") for example in (*train.examples, *select.examples)
    )
    assert train.faults == {"no language": 1}


def test_ccgs_labels_come_from_train() -> None:
    examples = [{"words": ["a", "b"], "tags": ["N", "(S\\NP)/NP"]}, {"words": ["c"], "tags": ["N"]}]
    assert formats.load(tasks.load("ccg").format).head_labels(
        tasks.load("ccg").labels, examples
    ) == ("(S\\NP)/NP", "N")
    assert formats.load(tasks.load("mnli").format).head_labels(
        tasks.load("mnli").labels, []
    ) == tuple(NLI)


# -- anything at all
# ---------------------------------------------------------------------------------------------------

TEXT = (
    st.none()
    | st.text(max_size=12)
    | st.sampled_from(["", " ", ZERO, "é", "e\u0301", "ไทย", "عربي", "中文"])
)
STARTS = st.none() | st.integers(-3, 30)
ANSWERS = st.none() | st.fixed_dictionaries(
    {
        "text": st.none() | st.lists(TEXT, max_size=3),
        "answer_start": st.none() | st.lists(STARTS, max_size=3),
    }
)
STRATEGIES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "mnli": st.fixed_dictionaries(
        {"premise": TEXT, "hypothesis": TEXT, "label": st.none() | st.integers(-1, 2)}
    ),
    "squad1": st.fixed_dictionaries(
        {"id": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS}
    ),
    "squad2": st.fixed_dictionaries(
        {"id": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS}
    ),
    "panx": st.fixed_dictionaries(
        {
            "tokens": st.none() | st.lists(TEXT, max_size=4),
            "ner_tags": st.none() | st.lists(st.none() | st.integers(-1, 6), max_size=4),
        }
    ),
    "csqa": st.fixed_dictionaries(
        {
            "id": TEXT,
            "question": TEXT,
            "answerKey": st.none() | st.sampled_from(["", "A", "B", "Z"]),
            "choices": (
                st.none()
                | st.fixed_dictionaries(
                    {"label": st.just(["A", "B"]), "text": st.lists(TEXT, max_size=3)}
                )
            ),
        }
    ),
    "hellaswag": st.fixed_dictionaries(
        {
            "ctx_a": TEXT,
            "ctx_b": TEXT,
            "endings": st.none() | st.lists(TEXT, max_size=5),
            "label": st.none() | st.sampled_from(["", "0", "3", "9", "x"]),
        }
    ),
}
_STRUCT = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
TYPES: dict[str, dict[str, pa.DataType]] = {
    "mnli": {"premise": pa.string(), "hypothesis": pa.string(), "label": pa.int64()},
    "squad1": {
        "id": pa.string(),
        "context": pa.string(),
        "question": pa.string(),
        "answers": _STRUCT,
    },
    "squad2": {
        "id": pa.string(),
        "context": pa.string(),
        "question": pa.string(),
        "answers": _STRUCT,
    },
    "panx": {"tokens": pa.list_(pa.string()), "ner_tags": pa.list_(pa.int64())},
    "csqa": {
        "id": pa.string(),
        "question": pa.string(),
        "answerKey": pa.string(),
        "choices": pa.struct([("label", pa.list_(pa.string())), ("text", pa.list_(pa.string()))]),
    },
    "hellaswag": {
        "ctx_a": pa.string(),
        "ctx_b": pa.string(),
        "endings": pa.list_(pa.string()),
        "label": pa.string(),
    },
}
PLACES = {
    "mnli": MNLI,
    "squad1": SQUAD,
    "squad2": "rajpurkar/squad_v2/squad_v2/{}-00000-of-00001.parquet",
    "panx": PANX.replace("{}", "en", 1),
    "csqa": "tau/commonsense_qa/data/{}-00000-of-00001.parquet",
    "hellaswag": "Rowan/hellaswag/data/{}-00000-of-00001.parquet",
}


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
@pytest.mark.parametrize("scoring", [False, True], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_any_rows_come_out_as_examples_or_counted(
    name: str, scoring: bool, scratch: Path, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(STRATEGIES[name], max_size=6))
    schema = pa.schema(list(TYPES[name].items()))
    path = PLACES[name].format("train")
    mirror_of(scratch, {path: pa.Table.from_pylist(rows, schema=schema)})
    task: Task = tasks.load(name)
    located = locate(Mirror(scratch), task.train[0])
    try:
        part = Reader(places=100).read(
            task, [located], split="train", language="en", scoring=scoring
        )
    except DataError as error:
        assert str(error)
        return
    assert part.rows == len(rows) == len(part.examples) + sum(part.faults.values())
    assert len(part.places) == sum(part.faults.values()) + sum(part.kept.values())
    assert all(example["id"] for example in part.examples) or any(
        row.get("id") == "" for row in rows
    )
    if not scoring:
        assert not part.kept or set(part.kept) == {"duplicated id"}
