"""What a person gives a trained module → examples without gold, or a reason why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from adapters_xtl import formats
from adapters_xtl.base.errors import DataError
from adapters_xtl.formats import Format, example_of_columns, has_lone_surrogate
from adapters_xtl.tasks import Task

__all__ = ["example_of", "examples_of"]


def example_of(task: Task, value: Any) -> dict[str, Any]:
    """An example of `task` without gold. `value` is a dict by the format's own fields or by the
    task's own columns, a text, or a list of texts. DataError says what is wrong with it.
    """
    form = formats.load(task.format)
    named = _by_field(form, value)
    required = form.required_fields(task)
    names = (*form.fields, *form.optional_fields)
    fields: dict[str, Any] = named
    if any(field not in named for field in form.fields):
        fields = example_of_columns(task, named, form.fields) or named
    kept = {name: fields[name] for name in names if fields.get(name) is not None}
    missing = [name for name in required if name not in kept]
    if missing:
        raise DataError(f"no {' and no '.join(missing)}: expected {form.input_help}")
    form.check_input(kept)
    identity = None if named.get("id") is None else str(named["id"])
    if identity is not None and has_lone_surrogate(identity):
        raise DataError("'id' holds half a character (a lone surrogate)")
    return {"id": identity, **kept}


def examples_of(task: Task, values: Iterable[Any]) -> list[dict[str, Any]]:
    """`example_of` each value; a DataError names the number of the input, from 0."""
    examples = []
    for number, value in enumerate(values):
        try:
            examples.append(example_of(task, value))
        except DataError as error:
            raise DataError(f"input {number}: {error}") from error
    return examples


def _by_field(form: Format, value: Any) -> dict[str, Any]:
    """What was given, by field or column."""
    if isinstance(value, str):
        return form.from_text(value)
    fields = form.from_list(value) if isinstance(value, list | tuple) else value
    if not isinstance(fields, Mapping):
        raise DataError(f"expected {form.input_help}, not {type(value).__name__}")
    return dict(fields)
