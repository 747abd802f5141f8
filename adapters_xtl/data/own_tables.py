"""The files that people have: CSV, TSV, JSON lines, CoNLL, SQuAD's JSON → a table.

What `adapters_xtl.data.table_files` reads is read there. Two more forms:

CoNLL  `.conll`, `.bio`, `.iob`, `.iob2`, `.txt`: a word and its fields a line, parted by a tab or
       by blanks, an empty line after each sentence; columns are named by their number from 1, or
       "words" (the first) and "tags" (the last). `.conllu` has the names of Universal
       Dependencies (form, lemma, upos, xpos …; "words" is form, "tags" upos), and lines of
       multi-word tokens and empty nodes are left out.
SQuAD  `.json` with {"data": [{"paragraphs": [{"context", "qas": […]}]}]}: one row a question.

Every fault is a DataError that names the file and the line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from adapters_xtl.base.errors import DataError
from adapters_xtl.base.untrusted import Refusal, parse_json
from adapters_xtl.data.table_files import is_list, read_file

__all__ = ["READABLE", "read_own_file"]

_CONLL = (".conll", ".bio", ".iob", ".iob2", ".txt")
_CONLLU = ".conllu"
READABLE = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".conllu", *_CONLL)
_UD_COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_LONGEST = 1 << 30  # bytes of a JSON or CoNLL file


def read_own_file(path: Path, name: str, columns: Mapping[str, str]) -> tuple[pa.Table, list[str]]:
    """(the declared columns that the file has, labels as text; the names of all its columns).

    `columns`: column → declared type. DataError, beginning with `name`, for a file that cannot be
    read.
    """
    if path.suffix == _CONLLU or path.suffix in _CONLL:
        return _read_conll(path, name, columns)
    if path.suffix == ".json" and (document := _document(path, name)) is not None:
        return _read_document(document, name, columns)
    # labels are read as text: of whole numbers a class column would be the index of a class
    read = {column: _AS_READ.get(declared, declared) for column, declared in columns.items()}
    table, present = read_file(path, name, read)
    for number, field in enumerate(table.schema):
        declared = columns.get(field.name, "")
        if declared in ("class", "label", "classes"):
            column = table.column(number)
            table = table.set_column(number, field.name, _labels_as_text(column, field.name, name))
    return table, present


_AS_READ = {"class": "string", "label": "string", "classes": "strings"}


def _labels_as_text(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    """Texts, whole numbers and booleans (or lists of them) as text; DataError for other types."""
    kind = column.type
    inner = kind.value_type if is_list(kind) else kind
    if pa.types.is_boolean(inner) or pa.types.is_integer(inner):
        return column.cast(pa.list_(pa.string()) if is_list(kind) else pa.string())
    if pa.types.is_floating(inner) and not is_list(kind):
        whole = column.cast(pa.int64(), safe=False)
        if pc.all(pc.fill_null(pc.equal(whole.cast(inner), column), True)).as_py():
            return whole.cast(pa.string())
        raise DataError(
            f"{where}: column '{name}' holds numbers with a fraction: these are no labels"
        )
    return column


# ------------------------------------------------------------------ CoNLL


def _read_conll(path: Path, name: str, columns: Mapping[str, str]) -> tuple[pa.Table, list[str]]:
    universal = path.suffix == _CONLLU
    sentences = list(_sentences(path, name, universal))
    width = len(sentences[0][0]) if sentences else 2
    if width < 2:
        raise DataError(f"{name}: its lines have one field; a word and its tag are needed at least")
    names = _UD_COLUMNS if universal else tuple(str(number + 1) for number in range(width))
    usual = {"words": 1, "tags": 3} if universal else {"words": 0, "tags": width - 1}
    places = {**{column: number for number, column in enumerate(names)}, **usual}
    present = [column for column in places if column not in usual or column in columns]
    arrays = {
        column: pa.array(
            [[word[places[column]] for word in sentence] for sentence in sentences],
            pa.list_(pa.string()),
        )
        for column in present
        if column in columns
    }
    return pa.table(arrays), present


def _sentences(path: Path, name: str, universal: bool) -> Iterator[list[Sequence[str]]]:
    """The sentences of a file: the fields of every word. DataError for a line of another width."""
    width = 10 if universal else 0
    words: list[Sequence[str]] = []
    for number, line in _lines(path, name):
        fields = line.split("\t") if universal or "\t" in line else line.split()
        if not line.strip():
            if words:
                yield words
            words = []
            continue
        comment = line.startswith("#") and not words and len(fields) != width
        if comment or fields[0] == "-DOCSTART-":
            continue
        width = width or len(fields)
        if len(fields) != width:
            raise DataError(
                f"{name}: line {number} has {len(fields)} fields, the lines before it {width}"
            )
        if universal and not fields[0].isdecimal():
            continue  # 3-4: a multi-word token; 5.1: an empty node
        words.append(fields)
    if words:
        yield words


def _lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, from 1 on."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: is not UTF-8 text") from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from error


# ------------------------------------------------------------------ JSON documents


def _document(path: Path, name: str) -> Any:
    """The value of a JSON file that is one document; None where it is lines of JSON."""
    try:
        if path.stat().st_size > _LONGEST:
            return None
        content = path.read_bytes()
        first, _, rest = content.partition(b"\n")
        if first.strip().endswith(b"}") and rest.strip():
            try:  # a whole object on the first line, and more behind it
                json.loads(first)
                return None
            except ValueError:
                pass
        return parse_json(content, _LONGEST)
    except Refusal as refusal:
        raise DataError(f"{name}: {refusal}") from refusal
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from error


def _read_document(
    document: Any, name: str, columns: Mapping[str, str]
) -> tuple[pa.Table, list[str]]:
    """A list of rows, or SQuAD's paragraphs and questions."""
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        document = list(_questions(document["data"], name)) or document["data"]
    elif isinstance(document, dict):
        document = [document]
    if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
        raise DataError(f"{name}: holds neither a list of rows nor SQuAD's {{'data': […]}}")
    present = list(dict.fromkeys(key for row in document for key in row))
    kept = [column for column in present if column in columns or column == "id"]
    arrays = {}
    for column in kept:
        declared = columns.get(column, "string")
        values = [_value(row.get(column), declared) for row in document]
        try:
            arrays[column] = pa.array(values, _ARROW.get(declared))
        except (pa.ArrowException, TypeError, ValueError) as error:
            wrong = next(
                (number for number, value in enumerate(values) if not _fits(value, declared)), 0
            )
            raise DataError(
                f"{name}: column '{column}', row {wrong}: no {declared} value"
            ) from error
    return pa.table(arrays), present


_TEXTS = pa.list_(pa.string())
_ARROW = {
    **dict.fromkeys(("string", "class", "label"), pa.string()),
    **dict.fromkeys(("strings", "classes"), _TEXTS),
    "answers": pa.struct([("text", _TEXTS), ("answer_start", pa.list_(pa.int64()))]),
}


def _fits(value: Any, declared: str) -> bool:
    try:
        pa.array([value], _ARROW.get(declared))
    except (pa.ArrowException, TypeError, ValueError):
        return False
    return True


def _value(value: Any, declared: str) -> Any:
    """A JSON value in the form of its column: labels as text, answers as texts and their starts."""
    if declared in ("class", "label") and isinstance(value, (bool, int)):
        return json.dumps(value)
    if declared == "classes" and isinstance(value, list):
        return [json.dumps(item) if isinstance(item, (bool, int)) else item for item in value]
    if declared == "answers" and isinstance(value, list):
        return {
            "text": [answer.get("text") for answer in value if isinstance(answer, dict)],
            "answer_start": [
                answer.get("answer_start") for answer in value if isinstance(answer, dict)
            ],
        }
    return value


def _questions(articles: Sequence[Any], name: str) -> Iterator[dict[str, Any]]:
    """SQuAD's questions as rows of its hub form; nothing where the file has other rows."""
    for article in articles:
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            return
        for paragraph in paragraphs:
            for question in paragraph.get("qas", ()):
                yield {
                    "id": None if question.get("id") is None else str(question["id"]),
                    "context": paragraph.get("context"),
                    "question": question.get("question"),
                    "answers": [] if question.get("is_impossible") else question.get("answers", []),
                }
