"""CSV, TSV and JSON files → tables: a row a record, quotes as the kind of file has them, and no row
lost in silence. Every row here is made up for the tests.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.locate import locate
from adapters_xtl.data.reading import Reader
from adapters_xtl.data.sources import Mirror
from adapters_xtl.data.table_files import count_rows, read_file

COLUMNS = {"sentence1": "string", "sentence2": "string", "label": "class"}


def rows_of(path: Path, **columns: str) -> list[dict[str, Any]]:
    table, _ = read_file(path, path.name, columns or COLUMNS)
    assert count_rows(path, path.name) == table.num_rows
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


HEADER = "sentence1\tsentence2\tlabel\n"


def test_a_quote_in_a_tsv_file_is_text(tmp_path: Path) -> None:
    lines = [
        '"Go, she said.\tShe said go.\t1',
        'They left"\tThey stayed.\t0',
        '"whole"\t""\t1',
        "a \"b\" c\t'd'\t0",
    ]
    path = written(tmp_path / "train.tsv", HEADER + "".join(line + "\n" for line in lines))
    rows = rows_of(path)
    assert [list(map(str, row.values())) for row in rows] == [line.split("\t") for line in lines]
    assert [row["label"] for row in rows] == [1, 0, 1, 0]


def test_a_mirror_of_tsv_files_keeps_every_row_and_quote(tmp_path: Path) -> None:
    folder = tmp_path / "google/xtreme/PAWS-X.en"
    folder.mkdir(parents=True)
    rows = [(f"first {n}", f"second {n}", n % 2) for n in range(40)]
    rows[10] = ('"opened and never closed', "x", 1)
    rows[11] = ('it closes here"', "y", 0)
    lines = ["\t".join(map(str, row)) for row in rows]
    written(folder / "train.tsv", "\n".join([HEADER.strip(), *lines]))  # no line end at the end
    task = tasks.load("pawsx")
    files = locate(Mirror(tmp_path), task.train[0], "en")
    for strict in (False, True):
        part = Reader(strict=strict).read(
            task, [files], split="train", language="en", scoring=False
        )
        assert part.rows == 40 and not part.faults
        assert [(e["text"], e["pair"], int(e["label"])) for e in part.examples] == rows


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("a\tb\tc\n", "row 1"),
        ("a\tb\t1\tmore\n", "4 fields"),
        ("a\n", "1 fields"),
    ],
)
def test_a_tsv_line_of_another_width_is_named(tmp_path: Path, text: str, token: str) -> None:
    if token == "row 1":
        text = "x\ty\t0\na\tb\n"
    path = written(tmp_path / "train.tsv", HEADER + text)
    with pytest.raises(DataError, match=token) as caught:
        read_file(path, "train.tsv", COLUMNS)
    assert "line" in str(caught.value) and str(caught.value).startswith("train.tsv: ")


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.text(
                st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=1
            ),
            st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"])),
        ),
        min_size=1,
        max_size=6,
    ),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_text_without_tabs_and_line_ends_comes_out_of_a_tsv(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    written(path, end.join(["sentence1\tsentence2", *("\t".join(row) for row in rows)]) + end)
    found = rows_of(path, sentence1="string", sentence2="string")
    assert [(row["sentence1"], row["sentence2"]) for row in found] == rows


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            *[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))] * 2
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_a_csv_writer_quotes_comes_out_whole(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("sentence1", "sentence2"), *rows])
    try:
        found = rows_of(path, sentence1="string", sentence2="string")
    except DataError as error:  # lines in a field that look like rows: said, not guessed
        assert "a stray quote" in str(error)
    else:
        assert [(row["sentence1"], row["sentence2"]) for row in found] == rows


@pytest.mark.parametrize(
    ("lines", "row"),
    [
        (["a,b,1", '"c,d,0', 'e",f,1', "g,h,0"], 1),
        (["a,b,1", 'x,"y" z,0'], 1),
        (['"a" b,c,1'], 0),
        (["a,b,1", '"never closed,c,0'], 1),
        (["a,b,1", "c,d"], 1),
    ],
)
def test_a_stray_quote_in_a_csv_file_is_named(tmp_path: Path, lines: list[str], row: int) -> None:
    path = written(tmp_path / "t.csv", "\n".join(["sentence1,sentence2,label", *lines]) + "\n")
    with pytest.raises(DataError, match=f"t.csv: row {row}") as caught:
        read_file(path, "t.csv", COLUMNS)
    assert "\n" not in str(caught.value)


def test_a_quoted_field_of_several_lines_is_one_row(tmp_path: Path) -> None:
    text = 'sentence1,sentence2,label\n"one\ntwo, ""three""\n",b,1\nc,d,0\n'
    rows = rows_of(written(tmp_path / "t.csv", text))
    assert [row["sentence1"] for row in rows] == ['one\ntwo, "three"\n', "c"]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_texts_that_look_like_something_else_stay_texts(tmp_path: Path, suffix: str) -> None:
    values = ["NA", "null", "2020-01-01", "1e5", "true", "007"]
    comma = "," if suffix == "csv" else "\t"
    lines = [comma.join((value, "x", "1")) for value in values]
    path = written(tmp_path / f"t.{suffix}", HEADER.replace("\t", comma) + "\n".join(lines))
    assert [row["sentence1"] for row in rows_of(path)] == values


def test_classes_by_name_and_empty_cells_of_text_files(tmp_path: Path) -> None:
    path = written(tmp_path / "t.tsv", HEADER + "a\tb\tTrue\nc\td\tFalse\n")
    assert [row["label"] for row in rows_of(path)] == ["True", "False"]
    path = written(tmp_path / "t.tsv", HEADER + "a\tb\t1\nc\td\t\n")
    assert [row["label"] for row in rows_of(path)] == [1, None]


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_a_json_array_is_told_from_json_lines(tmp_path: Path, name: str) -> None:
    rows = [{"sentence1": "a", "sentence2": "b", "label": 1}]
    path = written(tmp_path / name, "\n " + json.dumps(rows, indent=1))
    with pytest.raises(DataError, match="one object"):
        read_file(path, name, COLUMNS)


@pytest.mark.parametrize("content", [b"sentence1\tsentence2\n\xff\xfe\tb\n", b"\x00" * 50])
def test_text_files_that_are_none(tmp_path: Path, content: bytes) -> None:
    for name in ("t.tsv", "t.csv"):
        (tmp_path / name).write_bytes(content)
        try:
            rows_of(tmp_path / name)
        except DataError as error:
            assert "\n" not in str(error) and name in str(error)


@pytest.mark.parametrize(
    "text",
    [
        '{"sentence1": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"sentence1": ' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}",
        '{"sentence1":\n' + "[\n" * 2000 + "]" * 2000 + "}",
        '{"a": "' + "]" * 5000 + '", "sentence1": ' + "[" * 2000 + "]" * 2000 + "}",
    ],
    ids=["lists", "objects", "lines", "brackets in text"],
)
def test_json_that_is_nested_deep_is_refused(tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "t.jsonl", '{"sentence1": "a"}\n' + text + "\n")
    with pytest.raises(DataError, match="nested deeper"):
        read_file(path, "t.jsonl", COLUMNS)


def test_brackets_in_texts_are_no_nesting(tmp_path: Path) -> None:
    rows = [{"sentence1": "[" * 500 + '\\"{', "sentence2": "}" * 3, "label": 1}] * 3
    path = written(tmp_path / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert rows_of(path) == rows
