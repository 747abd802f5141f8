"""Scores from label and prediction files in XTREME's official layout.

A folder holds `<task>/test-<language>.<suffix>` for labels and, by the same names, for predictions:
one label, row number or pair a line; one tag a line and a blank line after each sentence; for QA,
JSON in SQuAD's form against `{id: text}`; for Mewsli-X, JSON; for XCOPA, JSON lines with a field
`label`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import DataError, nearest
from adapters_xtl.metrics import accuracy, bucc, mewslix, mlqa, squad, tagging
from adapters_xtl.metrics.xtreme.averages import aggregate, languages_of

Scores = dict[str, float]


def read_lines(text: str) -> list[str]:
    """The lines of a plain file, each stripped of whitespace; blank ones stay. Only newlines end a
    line.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.strip() for line in (lines if lines[-1] else lines[:-1])]


def read_tags(text: str) -> list[list[str]]:
    """The sentences of a tag file: each blank line closes one, so a doubled one makes an empty
    sentence; the last may be closed by the file's end.
    """
    sentences: list[list[str]] = []
    current: list[str] = []
    for line in read_lines(text):
        if line:
            current.append(line)
        else:
            sentences.append(current)
            current = []
    return [*sentences, current] if current else sentences


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"not JSON: {error}") from None


def _unwrapped(text: str) -> Any:
    """A QA file's content: what lies under a key `data` if there is one (in prediction
    files, too).
    """
    content = _json(text)
    return content["data"] if isinstance(content, dict) and "data" in content else content


def read_questions(articles: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """(id, gold texts) of every question of SQuAD-form articles, in order; an id may come twice."""
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    yield question["id"], [answer["text"] for answer in question["answers"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"the label file is not in SQuAD's form: {error!r}") from None


def _predicted(text: str) -> dict[str, Any]:
    content = _unwrapped(text)
    if not isinstance(content, dict):
        raise DataError(f"predictions must be a JSON object, not a {type(content).__name__}")
    return content


def _xcopa(text: str) -> list[Any]:
    try:
        return [_json(line)["label"] for line in read_lines(text)]
    except (KeyError, TypeError) as error:
        raise DataError(f"a line without a field `label`: {error!r}") from None


def _accuracy(predictions: str, references: str, language: str, rules: str) -> Scores:
    return accuracy.score(read_lines(predictions), read_lines(references))


def _tagging(predictions: str, references: str, language: str, rules: str) -> Scores:
    return tagging.score(read_tags(predictions), read_tags(references), rules=rules)


def _squad(predictions: str, references: str, language: str, rules: str) -> Scores:
    return squad.score(_predicted(predictions), read_questions(_unwrapped(references)))


TASKS: dict[str, Callable[[str, str, str, str], Scores]] = {
    "xnli": _accuracy,
    "pawsx": _accuracy,
    "tatoeba": _accuracy,
    "xcopa": lambda p, r, language, rules: accuracy.score(_xcopa(p), _xcopa(r)),
    "panx": _tagging,
    "udpos": _tagging,
    "bucc2018": lambda p, r, language, rules: bucc.score(read_lines(p), read_lines(r)),
    "xquad": _squad,
    "tydiqa": _squad,
    "mlqa": lambda p, r, language, rules: mlqa.score(
        _predicted(p), read_questions(_unwrapped(r)), language
    ),
    "mewslix": lambda p, r, language, rules: mewslix.score(_json(p), _json(r)),
}
# by the names of their official folders; (prediction text, label text, language, tagging rules) ->
# scores


def score_text(
    task: str, language: str, predictions: str, references: str, *, rules: str = "0.0.12"
) -> Scores:
    """The scores of one task and language from the text of the two files, 0-100.

    `task` is a key of TASKS; `language` matters for MLQA alone; `rules` are the tagging rules.
    Raises DataError for an unknown task, unreadable content, or what the task's metric refuses.
    """
    if task not in TASKS:
        raise DataError(f"unknown task {task!r}{nearest(task, TASKS)}")
    return TASKS[task](predictions, references, language, rules)


def score_file(
    task: str, language: str, predictions: Path, references: Path, *, rules: str = "0.0.12"
) -> Scores:
    """`score_text` of two files (UTF-8). DataErrors name the files; a missing one is a DataError,
    too.
    """
    texts = []
    for path in (predictions, references):
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
    try:
        return score_text(task, language, *texts, rules=rules)
    except DataError as error:
        raise DataError(f"{task} {language}, {predictions} against {references}: {error}") from None


def score_folders(
    predictions: Path, references: Path, *, version: str = "xtreme", rules: str = "0.0.12"
) -> dict[str, Any]:
    """`aggregate` over whole folders: tasks with a folder on both sides, in all languages."""
    scores: dict[str, dict[str, Scores]] = {}
    for task, languages in languages_of(version).items():
        if (predictions / task).is_dir() and (references / task).is_dir():
            scores[task] = {
                language: score_file(
                    task,
                    language,
                    _find(predictions, task, language),
                    _find(references, task, language),
                    rules=rules,
                )
                for language in languages
            }
    return aggregate(scores, version)


def _find(folder: Path, task: str, language: str) -> Path:
    names = [folder / task / f"test-{language}.{suffix}" for suffix in ("tsv", "json", "jsonl")]
    existing = [path for path in names if path.is_file()]
    if len(existing) != 1:
        raise DataError(
            f"{task} {language}: {len(existing)} files {folder / task}/test-{language}.*, one is"
            " needed"
        )
    return existing[0]
