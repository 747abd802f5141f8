"""What a model may be asked: texts as people have them → examples, or a reason why not. No gold is
needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters_xtl.base.errors import DataError
from adapters_xtl.tasks import Rows, Task

__all__ = ["FIELDS", "example"]

FIELDS: Mapping[str, str] = {
    "classify": '{"text": …, "pair": …} (pair for tasks on two texts)',
    "choice": '{"context": …, "choices": [text, …]}',
    "span": '{"question": …, "context": …}',
    "tag": '{"words": [word, …]}',
    "retrieve": '{"text": …}',
}


_SURROGATE = re.compile("[\ud800-\udfff]")


class _Row(dict[str, Any]):
    """A row whose lacking columns read as None, so that a task's own `example()` takes rows without
    gold.
    """

    def __missing__(self, key: str) -> None:
        return None


def _forms(rows: Sequence[Rows]) -> Iterator[Rows]:
    """The published forms of a task's rows, all of them."""
    for each in rows:
        yield each
        yield from _forms(each.instead)


def _published(task: Task, given: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """What the task's own `example()` makes of a row of one of its published forms, gold or not; {}
    where of none.

    A column of gold may tell one form from another by its mere name, so each form's columns are put
    in, empty.
    """
    forms = _forms([*task.train, *(rows for group in task.report.values() for rows in group)])
    for columns in [(), *(form.columns for form in forms)]:
        try:
            found = task.example(_Row({**dict.fromkeys(columns), **given}))
        except (KeyError, ValueError, TypeError, AttributeError, IndexError):
            continue
        if all(found.get(key) is not None for key in keys):
            return {**found, "id": given.get("id")}
    return {}


def example(task: Task, given: Any, *, pairs: bool = True) -> dict[str, Any]:
    """An example of `task` without gold, from a dict by the format's own keys or by the task's own
    columns, from a text, or from a pair of texts. DataError says what is wrong with it.
    """
    if isinstance(given, str):
        given = {"text": given}
    elif isinstance(given, (list, tuple)) and task.format == "tag":
        given = {"words": list(given)}
    elif (
        isinstance(given, (list, tuple)) and task.format in ("classify", "span") and len(given) == 2
    ):
        given = dict(
            zip(
                ("text", "pair") if task.format == "classify" else ("question", "context"),
                given,
                strict=True,
            )
        )
    if not isinstance(given, Mapping):
        raise DataError(f"expected {FIELDS[task.format]}, not {type(given).__name__}")
    keys = {
        "classify": ("text",),
        "choice": ("context", "choices"),
        "span": ("question", "context"),
        "tag": ("words",),
        "retrieve": ("text",),
    }[task.format]
    found = dict(given)
    if not all(key in found for key in keys):
        found = _published(task, given, keys) or found
    kept: dict[str, Any] = {key: found.get(key) for key in keys}
    if task.format == "classify" and found.get("pair") is not None:
        kept["pair"] = found["pair"]
    missing = [key for key in keys if kept[key] is None]
    if missing:
        raise DataError(f"no {' and no '.join(missing)}: expected {FIELDS[task.format]}")
    if task.format == "classify" and pairs and "pair" not in kept:
        raise DataError(f"no pair: '{task.name}' is about two texts, {FIELDS['classify']}")
    for key, value in kept.items():
        _text(key, value)
    identity = None if given.get("id") is None else str(given["id"])
    if identity is not None and _SURROGATE.search(identity):
        raise DataError("'id' holds half a character (a lone surrogate)")
    return {"id": identity, **kept}


def _text(key: str, value: Any) -> None:
    many = key in ("words", "choices")
    if many and not (isinstance(value, Sequence) and not isinstance(value, str) and value):
        raise DataError(f"'{key}' is no list of texts")
    for text in value if many else (value,):
        if not isinstance(text, str):
            raise DataError(f"'{key}' holds no text but {type(text).__name__}")
        if _SURROGATE.search(
            text
        ):  # JSON can spell it, no file can hold it: the answer could not be written
            raise DataError(f"'{key}' holds half a character (a lone surrogate)")
        if key != "words" and not text.strip():
            raise DataError(f"'{key}' is empty")
    if key == "choices" and not 2 <= len(value) <= 26:
        raise DataError(f"{len(value)} choices: expected 2 to 26")
