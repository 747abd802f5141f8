"""What a model may be asked: texts as people have them → examples, or a reason why not. No gold is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapters_xtl.errors import DataError
from adapters_xtl.spec import Task

__all__ = ["FIELDS", "example"]

FIELDS: Mapping[str, str] = {
    "classify": '{"text": …, "pair": …} (pair for tasks on two texts)',
    "choice": '{"context": …, "choices": [text, …]}',
    "span": '{"question": …, "context": …}',
    "tag": '{"words": [word, …]}',
    "retrieve": '{"text": …}',
}


class _Row(dict[str, Any]):
    """A row whose lacking columns read as None, so that a task's own `example()` takes rows without gold."""

    def __missing__(self, key: str) -> None:
        return None


def example(task: Task, given: Any, *, pairs: bool = True) -> dict[str, Any]:
    """An example of `task` without gold, from a dict by the format's own keys or by the task's own columns, from a text,
    or from a pair of texts. DataError says what is wrong with it.
    """
    if isinstance(given, str):
        given = {"text": given}
    elif isinstance(given, (list, tuple)) and task.format == "tag":
        given = {"words": list(given)}
    elif isinstance(given, (list, tuple)) and task.format in ("classify", "span") and len(given) == 2:
        given = dict(zip(("text", "pair") if task.format == "classify" else ("question", "context"), given, strict=True))
    if not isinstance(given, Mapping):
        raise DataError(f"expected {FIELDS[task.format]}, not {type(given).__name__}")
    keys = {"classify": ("text",), "choice": ("context", "choices"), "span": ("question", "context"), "tag": ("words",),
            "retrieve": ("text",)}[task.format]  # fmt: skip
    found = dict(given)
    if not all(key in found for key in keys):
        try:
            found = {**task.example(_Row(given)), "id": given.get("id")}
        except (KeyError, ValueError, TypeError, AttributeError, IndexError):
            found = {}
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
    return {"id": None if given.get("id") is None else str(given["id"]), **kept}


def _text(key: str, value: Any) -> None:
    many = key in ("words", "choices")
    if many and not (isinstance(value, Sequence) and not isinstance(value, str) and value):
        raise DataError(f"'{key}' is no list of texts")
    for text in value if many else (value,):
        if not isinstance(text, str):
            raise DataError(f"'{key}' holds no text but {type(text).__name__}")
        if key != "words" and not text.strip():
            raise DataError(f"'{key}' is empty")
    if key == "choices" and not 2 <= len(value) <= 26:
        raise DataError(f"{len(value)} choices: expected 2 to 26")
