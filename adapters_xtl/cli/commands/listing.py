"""What the listing commands show: tasks and backbones."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import registry
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.locate import RowFiles, locate_language, locate_report, locate_training
from adapters_xtl.data.reading import count_language_rows
from adapters_xtl.data.repository import MissingRows
from adapters_xtl.data.sources import Source, open_source
from adapters_xtl.pages import tables
from adapters_xtl.tasks import Rows, Task

__all__ = ["backbones_table", "tasks_table"]


def tasks_table(data: str | None) -> tuple[dict[str, Any], list[Table]]:
    """Every task, and which of its rows the source holds (the embedded samples by default)."""
    source = open_source(data or "embedded")
    entries = {name: _task_entry(tasks.load(name), source) for name in tasks.names()}
    columns = ("task", "kind", "format", "data", "languages", "metric", "train", "trains also in")
    table = tables.listed(
        "tasks",
        (*columns, f"{source}: languages it holds"),
        [_task_row(tasks.load(name), entry) for name, entry in entries.items()],
    )
    return {"source": str(source), "tasks": entries}, [table]


def _all_rows(task: Task) -> list[Rows]:
    """Where the task's train rows and reported rows lie, in that order."""
    return [*task.train, *(rows for parts in task.report.values() for rows in parts)]


def _task_entry(task: Task, source: Source) -> dict[str, Any]:
    return {
        "kind": task.kind,
        "format": task.format,
        "title": task.title,
        "metric": task.metric,
        "group": task.group,
        "labels": list(task.labels),
        "languages": {name: list(codes) for name, codes in task.languages.items()},
        "data": sorted({str(rows) for rows in _all_rows(task)}),
        "train_in": {code: rows.origin for code, rows in task.train_in.items()},
        "train_from": task.train_from or None,
        "in_domain_task": task.in_domain_task or None,
        "members": list(task.members),
        "licence": task.licence,
        "source": _holdings(task, source),
    }


def _task_row(task: Task, entry: dict[str, Any]) -> tuple[str, ...]:
    holdings = entry["source"]
    repositories = [rows.repo for rows in _all_rows(task)]
    languages = len(next(iter(task.languages.values())))
    return (
        task.name,
        task.kind,
        task.format,
        repositories[0] if repositories else ", ".join(task.members),
        "English" if task.kind == "intermediate" else str(languages),
        task.metric,
        holdings["train"],
        _trains_also_in(task, holdings["train_in"]),
        ", ".join(holdings["languages"]) or "-",
    )


def _trains_also_in(task: Task, held: Sequence[str]) -> str:
    """The languages besides English that `train.languages` takes, with the number of those that the
    source holds.
    """
    origins = sorted({rows.origin for code, rows in task.train_in.items() if code in held})
    others = [code for code in held if code != "en"]
    declared = len(task.train_in.keys() - {"en"})
    if not declared:
        return "-"
    return f"{len(others)} of {declared}" + (f" ({', '.join(origins)})" if others else "")


def _holdings(task: Task, source: Source) -> dict[str, Any]:
    """What a source holds of a task: `train`, the number of English train rows or words for why
    there is none, `train_in`, the languages of `train.languages`, and `languages`, those with rows
    to report.
    """
    if task.members:
        return {"train": "members'", "train_in": [], "languages": ["en"]}
    train = f"from {task.train_from}" if task.train_from else "none"
    if task.train:
        try:
            train = _train_rows(task, source)
        except MissingRows:
            train = "lacking"
        except DataError:
            train = "damaged"
    languages: dict[str, None] = {}
    for split in list(task.report)[: 1 if source.kind == "embedded" else None]:
        try:
            files_by_language, _ = locate_report(source, task, split, task.all_languages)
            for code, files in files_by_language.items():
                if source.kind == "hub" or _holds_language(files, task.code(code)):
                    languages[code] = None
        except DataError:
            train += " (damaged)"
    return {"train": train, "train_in": _train_in(task, source), "languages": list(languages)}


def _train_in(task: Task, source: Source) -> list[str]:
    """The languages of `train.languages` in which a source holds train rows."""
    held = []
    for language in task.train_in:
        with contextlib.suppress(DataError):
            files = locate_language(source, task, language).train
            if source.kind == "hub" or _holds_language([files], task.code(language)):
                held.append(language)
    return held


def _train_rows(task: Task, source: Source) -> str:
    files = locate_training(source, task, "clean", tasks.load).train
    if source.kind == "hub":
        return "listed"  # to count them, they would have to be downloaded
    return str(count_language_rows(files, task.code("en")))


def _holds_language(files: Sequence[RowFiles], code: str) -> bool:
    """Whether there are rows of a language; in files of several languages only the rows tell."""
    one_language_each = not any(file.rows.language for file in files)
    return one_language_each or count_language_rows(files, code) > 0


def backbones_table() -> tuple[dict[str, Any], list[Table]]:
    """The backbones that have names; hub ids and directories are taken besides."""
    entries = {
        name: {
            "source": backbone.source,
            "location": backbone.location,
            "note": backbone.note,
            "lr": {method: methods.load(method).rate_on(name) for method in methods.names()},
        }
        for name, backbone in registry.NAMED.items()
    }
    table = tables.listed(
        "backbones",
        ("name", "source", "what", "note"),
        [
            (name, entry["source"], entry["location"], entry["note"])
            for name, entry in entries.items()
        ],
    )
    return {"backbones": entries}, [table]
