"""Predictions of runs for the page: which are right, and as many as there is room for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xtl import metrics, tasks
from adapters_xtl.base.errors import XtlError
from adapters_xtl.pages.page_tables import anchor
from adapters_xtl.pages.table_text import one_line
from adapters_xtl.runs.stored_runs import StoredRun

__all__ = ["MARKS", "MOST_ROWS", "Predictions", "gather", "marks", "script_safe"]

MOST_ROWS = 500  # of a task in a language
_FEWER_ROWS = (500, 200, 100, 50, 20)  # what there are where many runs share the room
_BYTES_OF_A_ROW = 160  # about, in the page
_LONGEST = 240  # characters of a text, after which it is cut
_MOST_WORDS = 120
MARKS = ("right", "partly", "wrong", "unknown")


@dataclass(frozen=True)
class Predictions:
    """The predictions that the page can show.

    text   a JSON object that can stand inside a script element; "" where there are none
    left_out  sentences: what is not there, and why
    """

    text: str
    shown: int
    left_out: tuple[str, ...]


def gather(runs: Sequence[tuple[str, StoredRun]], room: int) -> Predictions:
    """The first predictions of each run, task and language, as many as fit into `room` bytes.

    `runs`: (title, run), the ones that matter most first.
    """
    languages = sum(
        len(scores.languages) for _, run in runs for scores in run.metrics.tasks.values()
    )
    fitting = room // (_BYTES_OF_A_ROW * max(languages, 1))
    most = next((rows for rows in _FEWER_ROWS if rows <= fitting), _FEWER_ROWS[-1])
    left_out: list[str] = []
    blocks: list[dict[str, Any]] = []
    used = shown = whole = without_room = 0
    for title, run in runs:
        if not run.metrics.tasks:
            continue
        block, missing = _of_run(title, run, most)
        left_out += missing
        encoded = len(json.dumps(block, ensure_ascii=False).encode())
        if used + encoded > room:
            without_room += 1
            continue
        if not block["tasks"]:
            continue
        used += encoded
        blocks.append(block)
        for task in block["tasks"]:
            for language in task["languages"]:
                shown += len(language["rows"])
                whole += language["total"]
    if shown < whole:
        left_out.append(
            f"Of {whole:,} predictions {shown:,} are here: the first {most} of each language."
        )
    if without_room:
        left_out.append(
            f"The predictions of {without_room} further run{'s' * (without_room > 1)} are not here:"
            " the page would be too large. They are in the runs' directories."
        )
    return Predictions(script_safe({"runs": blocks}) if blocks else "", shown, tuple(left_out))


def script_safe(value: Any) -> str:
    """JSON that can stand inside a script element: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _of_run(title: str, run: StoredRun, most: int) -> tuple[dict[str, Any], list[str]]:
    """(the run's predictions as the page's script reads them, what cannot be read)."""
    by_task: list[dict[str, Any]] = []
    missing: list[str] = []
    for task, scores in run.metrics.tasks.items():
        languages = []
        for language in scores.languages:
            path = run.path / "predictions" / task / f"{language}.jsonl"
            try:
                rows, total = _read(path, most)
            except (OSError, ValueError) as error:
                name = f"{run.spec.task}/{run.spec.id}"
                missing.append(
                    f"{name}: predictions of {task} in {language} cannot be read"
                    f" ({getattr(error, 'strerror', None) or one_line(str(error))})."
                )
                continue
            row_marks = marks(task, rows, language)
            languages.append(
                {
                    "code": language,
                    "total": total,
                    "rows": [_row(row, mark) for row, mark in zip(rows, row_marks, strict=True)],
                }
            )
        if languages:
            by_task.append({"name": task, "split": scores.split, "languages": languages})
    block = {"title": title, "card": anchor("run", run.spec.task, run.spec.id), "tasks": by_task}
    return block, missing


def _read(path: Path, most: int) -> tuple[list[dict[str, Any]], int]:
    """(the first rows of a file of predictions, how many it holds). ValueError for no JSON."""
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for number, line in enumerate(islice(file, most), start=1):
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: no JSON object")
            rows.append(row)
        rest = sum(1 for line in file if line.strip())
    return rows, len(rows) + rest


# ---------------------------------------------------------------------------- right and wrong


def marks(task: str, rows: Sequence[Mapping[str, Any]], language: str) -> list[str]:
    """One of MARKS for each prediction of a task.

    A prediction is right where it is its gold, or one of its golds, and where the task's metric
    gives the row its full score; partly where the metric gives it something.
    """
    shares = _shares(task, rows, language)
    return [_mark(row, share) for row, share in zip(rows, shares, strict=True)]


def _mark(row: Mapping[str, Any], share: float | None) -> str:
    gold, prediction = row.get("gold"), row.get("prediction")
    if gold is None:
        return "unknown"
    if "prediction" not in row:  # a pair that was proposed, or that should have been
        return "right" if gold and row.get("score") is not None else "wrong"
    several = isinstance(gold, list) and not isinstance(prediction, list)
    if prediction in gold if several else prediction == gold:
        return "right"
    if share is None:
        return "wrong"
    return "right" if share >= 100 - 1e-9 else "partly" if share > 0 else "wrong"


def _shares(task: str, rows: Sequence[Mapping[str, Any]], language: str) -> Sequence[float | None]:
    """What the task's metric gives each row by itself, 0 to 100; None where it is no sum of rows,
    or where the task is not known here.
    """
    nothing = [None] * len(rows)
    try:
        declared = tasks.load(task)
        groups = metrics.get(declared.scorer).items(rows, language)
    except (XtlError, ValueError, TypeError, KeyError, AttributeError):
        return nothing
    for group in groups:
        if len(group.stats) != len(rows):
            continue
        values = group.measure(group.stats).get(declared.metric)
        if values is not None:
            return [None if np.isnan(value) else float(value) for value in values]
    return nothing


# ---------------------------------------------------------------------------- rows


def _row(row: Mapping[str, Any], mark: str) -> list[Any]:
    """[id, place in MARKS, prediction, gold, confidence], or with words and tags in the places of
    prediction and gold: [[word, predicted tag, gold tag], …] and null.
    """
    identity = _text(row.get("id", row.get("source_id", "")))
    place = MARKS.index(mark)
    words, prediction, gold = row.get("words"), row.get("prediction"), row.get("gold")
    if isinstance(words, list) and isinstance(prediction, list):
        golds = gold if isinstance(gold, list) else [""] * len(words)
        tagged = [
            [_text(word), _text(tag), _text(right)]
            for word, tag, right in zip(words, prediction, golds, strict=False)
        ]
        return [identity, place, tagged[:_MOST_WORDS], None, None]
    if "prediction" not in row:
        pair = f"{_text(row.get('source_id', ''))} · {_text(row.get('target_id', ''))}"
        return [identity, place, pair, "a pair" if gold else "no pair", _confidence(row)]
    golds = gold if isinstance(gold, list) else [] if gold is None else [gold]
    shown = " / ".join(dict.fromkeys(_text(answer) for answer in golds[:5]))
    return [identity, place, _text(prediction), shown, _confidence(row)]


def _confidence(row: Mapping[str, Any]) -> float | None:
    """The share or score that the prediction got, where the row has one."""
    value: Any = row.get("score")
    shares, prediction = row.get("probabilities"), row.get("prediction")
    if isinstance(shares, dict):
        value = shares.get(prediction)
    elif isinstance(shares, list) and isinstance(prediction, int):
        value = shares[prediction] if 0 <= prediction < len(shares) else None
    usable = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return round(float(value), 4) if usable else None


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = ", ".join(str(part) for part in value[:20])
    text = one_line(str(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
