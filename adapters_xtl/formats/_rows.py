"""Rows that lack columns: what a task's `example()` makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters_xtl.tasks import Rows, Task

__all__ = ["example_of_columns", "example_without_values"]


class _Row(dict[str, Any]):
    """A row whose lacking columns read as None, so that a task's own `example()` takes it."""

    def __missing__(self, key: str) -> None:
        return None


def _all_forms(rows: Sequence[Rows]) -> Iterator[Rows]:
    """The published forms of a task's rows, all of them."""
    for form in rows:
        yield form
        yield from _all_forms(form.instead)


def _column_sets(task: Task) -> list[tuple[str, ...]]:
    """The columns of each published form of the task's rows, and no columns at all."""
    reported = [rows for group in task.report.values() for rows in group]
    forms = _all_forms([*task.train, *task.select, *reported])
    return [(), *(tuple(form.columns) for form in forms)]


def _example(task: Task, row: Mapping[str, Any]) -> dict[str, Any]:
    """The task's example of a row; {} where the row is none of the task's."""
    try:
        return dict(task.example(_Row(row)))
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        return {}


def example_of_columns(task: Task, row: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The example that the task makes of a row of one of its published forms, with or without gold;
    {} where the row is of none of them: then some of `fields` are missing.

    A column of gold may tell one form from another by its mere name, so each form's columns are put
    in, empty.
    """
    for columns in _column_sets(task):
        example = _example(task, {**dict.fromkeys(columns), **row})
        if all(example.get(field) is not None for field in fields):
            return example
    return {}


def example_without_values(task: Task) -> dict[str, Any]:
    """An example of the task whose fields are there but hold nothing; {} where `example()` does not
    take such a row.
    """
    for columns in _column_sets(task):
        if example := _example(task, dict.fromkeys(columns)):
            return example
    return {}
