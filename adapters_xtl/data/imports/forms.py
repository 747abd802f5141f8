"""The forms of XTREME's files → rows: pairs in TSV, tagged tokens, SQuAD's JSON, COPA's JSON lines,
`id TAB sentence`.

Each reader takes one file and gives its rows, or None if the file has problems or must not be
scored because its gold is hidden (both are told to the `Staging`). XTREME hides the gold of test
splits by leaving labels out, by leaving them blank, by writing the same one everywhere, or by
blanking answers.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import DataError, nearest
from adapters_xtl.data.imports.staging import Staging

__all__ = ["Question", "choices", "columns", "json_lines", "pairs", "questions", "sentences"]

Question = tuple[str, str, str, str, dict[str, list[Any]]]  # id, title, context, question, answers
Tagged = tuple[list[str], list[int]]  # tokens, indices of their tags

_CSV = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')
_KINDS = {str: "text", int: "whole number", list: "list", dict: "object"}


def _scorable(build: Staging, path: Path, split: str, labels: Sequence[tuple[int, Any]]) -> bool:
    """True if every (line, label) has its label. Refuses a file whose gold is hidden."""
    present = [label for _, label in labels if label is not None]
    if not labels:
        if not build.troubled(path):
            build.problem(path, "no rows")
        return False
    if not present:
        build.refuse(path, "the gold is hidden: no row has a label")
        return False
    for line, label in labels:
        if label is None:
            build.problem(path, "no label, though other rows have one", line)
    if build.troubled(path):
        return False
    if split == "test" and len(present) > 1 and all(label == present[0] for label in present):
        build.refuse(
            path, f"the gold is hidden: all {len(present)} labels are {present[0]!r}, a placeholder"
        )
        return False
    return True


def columns(build: Staging, path: Path, count: int, what: str) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of a file with exactly `count` tab-separated fields a line."""
    for number, line in enumerate(build.lines(path), 1):
        fields = line.split("\t")
        if len(fields) == count:
            yield number, fields
        else:
            build.problem(path, f"{len(fields)} columns instead of {count} ({what})", number)


def pairs(
    build: Staging, path: Path, split: str, labels: Sequence[str]
) -> list[tuple[str, str, str]] | None:
    """Two sentences and a label a line, no header; quote characters are text, as for XTREME's own
    reader.
    """
    numbered_rows: list[tuple[int, str, str, str | None]] = []
    for number, line in enumerate(build.lines(path), 1):
        fields = line.split("\t")
        if len(fields) not in (2, 3):
            build.problem(path, f"{len(fields)} columns instead of 3 (or 2 without label)", number)
            continue
        label = fields[2].strip() if len(fields) == 3 else ""
        if label and label not in labels:
            build.problem(path, f"unknown label {label!r}{nearest(label, labels)}", number)
        numbered_rows.append((number, fields[0], fields[1], label or None))
    if not _scorable(
        build, path, split, [(number, label) for number, _, _, label in numbered_rows]
    ):
        return None
    texts = [text for _, first, second, _ in numbered_rows for text in (first, second)]
    quoted = sum(_CSV.fullmatch(text) is not None for text in texts)
    build.count(path, "texts in CSV quoting, quotes kept as XTREME's own reader keeps them", quoted)
    build.count(path, "blank texts", sum(not text.strip() for text in texts))
    return [
        (first, second, label) for _, first, second, label in numbered_rows if label is not None
    ]


def sentences(build: Staging, path: Path, split: str, labels: Sequence[str]) -> list[Tagged] | None:
    """`token TAB tag` a line, a blank line after each sentence → tokens and the tags' indices in
    `labels`.
    """
    groups: list[list[tuple[int, str, str | None]]] = [[]]
    blanks = 0
    for number, line in enumerate(build.lines(path), 1):
        if not line.strip():
            blanks += not groups[-1]
            groups.append([])
            continue
        token, *rest = line.split("\t")
        tag = rest[0].strip() if rest else ""
        if len(rest) > 1:
            build.problem(path, f"{len(rest) + 1} columns instead of 2 (token and tag)", number)
        elif tag and tag not in labels:
            build.problem(path, f"unknown tag {tag!r}{nearest(tag, labels)}", number)
        groups[-1].append((number, token, tag or None))
    tagged_sentences = [sentence for sentence in groups if sentence]
    if tagged_sentences and all(
        _spaced(token, labels) for rows in tagged_sentences for _, token, _ in rows
    ):
        first = tagged_sentences[0][0][0]
        build.problem(path, "a space instead of a tab between token and tag", first)
        return None
    if not _scorable(
        build,
        path,
        split,
        [(number, tag) for sentence in tagged_sentences for number, _, tag in sentence],
    ):
        return None
    build.count(path, "blank lines that end no sentence", blanks)
    build.count(
        path,
        "empty tokens",
        sum(not token.strip() for sentence in tagged_sentences for _, token, _ in sentence),
    )
    index = {label: position for position, label in enumerate(labels)}
    return [
        ([token for _, token, _ in rows], [index[tag] for _, _, tag in rows if tag])
        for rows in tagged_sentences
    ]


def _spaced(line: str, labels: Sequence[str]) -> bool:
    """Whether a line is a token and a tag with a space between them."""
    parts = line.split()
    return len(parts) > 1 and parts[-1] in labels


def json_lines(build: Staging, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of a file with one JSON object a line; blank lines are passed over."""
    for number, line in enumerate(build.lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            build.problem(path, f"no valid JSON ({error})", number)
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            build.problem(path, "no JSON object", number)


def choices(build: Staging, path: Path, split: str) -> list[dict[str, Any]] | None:
    """COPA's rows, label 0 or 1, checked."""
    numbered_rows: list[tuple[int, dict[str, Any], int | None]] = []
    for number, row in json_lines(build, path):
        label = row.get("label")
        try:
            for name in ("premise", "choice1", "choice2", "question"):
                _get(row, name, str)
            if row["question"] not in ("cause", "effect"):
                raise DataError(f"question {row['question']!r} is neither 'cause' nor 'effect'")
            if "idx" in row:
                _get(row, "idx", int)
            if label not in (None, -1, 0, 1) or type(label) not in (int, type(None)):
                raise DataError(f"unknown label {label!r}; known: 0, 1")
            if type(row.get("changed")) not in (bool, type(None)):
                raise DataError(f"changed is {row['changed']!r}, neither true nor false")
        except DataError as error:
            build.problem(path, str(error), number)
        numbered_rows.append((number, row, None if label == -1 else label))
    if not _scorable(build, path, split, [(number, label) for number, _, label in numbered_rows]):
        return None
    return [row for _, row, _ in numbered_rows]


def questions(build: Staging, path: Path) -> list[Question] | None:
    """SQuAD's JSON, one row a question. An answer that does not stand at its offset is kept and
    counted.
    """
    text = build.text(path)
    if text is None:
        return None
    try:
        questions_read = list(_questions(json.loads(text)))
    except json.JSONDecodeError as error:
        build.problem(path, f"no valid JSON ({error.msg}, column {error.colno})", error.lineno)
        return None
    except (DataError, ValueError, RecursionError) as error:
        build.problem(path, str(error))
        return None
    if not questions_read:
        build.problem(path, "no questions")
        return None
    if not any(answer.strip() for *_, answers in questions_read for answer in answers["text"]):
        build.refuse(
            path,
            f"the gold is hidden: the answers of all {len(questions_read)} questions are blank",
        )
        return None
    odd: Counter[str] = Counter()
    for _, _, context, _, answers in questions_read:
        odd["questions without an answer"] += not answers["text"]
        for answer, start in zip(answers["text"], answers["answer_start"], strict=True):
            if not answer.strip():
                odd["blank answers"] += 1
            elif start < 0 or context[start : start + len(answer)] != answer:
                odd["answers that do not stand at their answer_start"] += 1
    for what, times in odd.items():
        build.count(path, what, times)
    return questions_read


def _questions(data: Any) -> Iterator[Question]:
    if not isinstance(data, dict):
        raise DataError("no JSON object with a list 'data'")
    for number, article in enumerate(_objects(data, "data", ""), 1):
        where = f"article {number}"
        title = _get(article, "title", str, where) if "title" in article else ""
        for paragraph in _objects(article, "paragraphs", where):
            context = _get(paragraph, "context", str, where)
            for row in _objects(paragraph, "qas", where):
                identity = _get(row, "id", str, where)
                question_name = f"question {identity}"
                answers = list(_objects(row, "answers", question_name))
                yield (
                    identity,
                    title,
                    context,
                    _get(row, "question", str, question_name),
                    {
                        "answer_start": [
                            _get(answer, "answer_start", int, question_name) for answer in answers
                        ],
                        "text": [_get(answer, "text", str, question_name) for answer in answers],
                    },
                )


def _objects(holder: dict[str, Any], name: str, where: str) -> Iterable[dict[str, Any]]:
    for item in _get(holder, name, list, where):
        if not isinstance(item, dict):
            raise DataError(f"{where}: an item of '{name}' is no object".removeprefix(": "))
        yield item


def _get(holder: dict[str, Any], name: str, kind: type, where: str = "") -> Any:
    """A field of exactly that type; texts can be written as UTF-8."""
    value: Any = holder.get(name)
    lead = f"{where}: " if where else ""
    if name not in holder:
        raise DataError(f"{lead}no field '{name}'{nearest(name, holder) if holder else ''}")
    if type(value) is not kind:
        raise DataError(f"{lead}'{name}' is no {_KINDS[kind]}")
    if kind is str:
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{lead}'{name}' holds half of a surrogate pair, which is no text"
            ) from None
    return value
