"""What the listing commands show: tasks, backbones, runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import tasks
from adapters_xtl.backbones import registry
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.locate import RowFiles, locate_report, locate_training
from adapters_xtl.data.reading import count_language_rows
from adapters_xtl.data.repository import MissingRows
from adapters_xtl.data.sources import Source, open_source
from adapters_xtl.pages import tables
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored import list_runs
from adapters_xtl.tasks import Task

__all__ = ["backbones_table", "runs_table", "tasks_table"]


def tasks_table(data: str | None) -> tuple[dict[str, Any], list[Table]]:
    """Every task, and what the source has of it (the embedded rows by default)."""
    source = open_source(data or "embedded")
    found: dict[str, Any] = {}
    rows = []
    for name in tasks.names():
        task = tasks.load(name)
        has = _holdings(task, source)
        found[name] = {
            "kind": task.kind,
            "format": task.format,
            "title": task.title,
            "metric": task.metric,
            "group": task.group,
            "labels": list(task.labels),
            "languages": {key: list(codes) for key, codes in task.languages.items()},
            "data": sorted(
                {
                    str(part)
                    for part in (*task.train, *(r for rs in task.report.values() for r in rs))
                }
            ),
            "train_from": task.train_from or None,
            "members": list(task.members),
            "licence": task.licence,
            "source": has,
        }
        languages = (
            "English"
            if task.kind == "intermediate"
            else str(len(next(iter(task.languages.values()))))
        )
        data_name = next(
            (part.repo for part in (*task.train, *(r for rs in task.report.values() for r in rs))),
            "",
        )
        rows.append(
            (
                name,
                task.kind,
                task.format,
                data_name or ", ".join(task.members),
                languages,
                task.metric,
                has["train"],
                ", ".join(has["languages"]) or "-",
            )
        )
    columns = (
        "task",
        "kind",
        "format",
        "data",
        "languages",
        "metric",
        "train",
        f"{source}: languages there",
    )
    return {"source": str(source), "tasks": found}, [tables.listed("tasks", columns, rows)]


def _holdings(task: Task, source: Source) -> dict[str, Any]:
    """English train rows (a number, or words for why there is none) and report languages that a
    source has.
    """
    if task.format == "multi":
        return {"train": "members'", "languages": ["en"]}
    train = f"from {task.train_from}" if task.train_from else "none"
    if task.train:
        try:
            files = locate_training(source, task, "clean", tasks.load)
            # on the hub a count would cost a download
            train = (
                "there"
                if source.kind == "hub"
                else str(count_language_rows(files.train, task.code("en")))
            )
        except MissingRows:
            train = "lacking"
        except DataError:
            train = "damaged"
    languages: dict[str, None] = {}
    for split in list(task.report)[: 1 if source.kind == "embedded" else None]:
        try:
            found, _ = locate_report(source, task, split, task.all_languages)
            languages |= {
                code: None
                for code, files in found.items()
                if source.kind == "hub" or _has(files, task.code(code))
            }
        except DataError:
            train += " (damaged)"
    return {"train": train, "languages": list(languages)}


def _has(located: Sequence[RowFiles], code: str) -> bool:
    """Whether rows of a language are there, which for files of several languages only their rows
    tell.
    """
    return not any(each.rows.language for each in located) or count_language_rows(located, code) > 0


def backbones_table() -> tuple[dict[str, Any], list[Table]]:
    found = {
        name: {
            "source": each.source,
            "location": each.location,
            "note": each.note,
            "lr": dict(each.lr),
        }
        for name, each in registry.NAMED.items()
    }
    rows = [
        (name, entry["source"], entry["location"], entry["note"]) for name, entry in found.items()
    ]
    return {"backbones": found}, [
        tables.listed("backbones", ("name", "source", "what", "note"), rows)
    ]


def runs_table(runs: str) -> tuple[dict[str, Any], list[Table]]:
    """Every run of a store; a damaged one is named with what is wrong with it."""
    finished, damaged = list_runs(Store(Path(runs)))
    listed = [_run_entry(run.path, damaged="") for run in finished]
    listed += [_run_entry(path, damaged=reason) for path, reason in damaged.items()]
    return {"runs": listed}, [tables.runs(finished, damaged)]


def _run_entry(path: Path, *, damaged: str) -> dict[str, str]:
    entry = {"task": path.parent.name, "id": path.name, "path": str(path)}
    return {**entry, "damaged": damaged} if damaged else entry
