"""Scores of a module as a hub reads them: the `model-index` of a card's metadata.

One entry a data set, language and split, with the revision that was read. An entry says that the
score is that of the data set's own rows, so only rows that came from the hub are in it, whole:
neither sample rows, nor a mirror's, nor somebody's own, nor the first few rows of a split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from adapters_xtl import formats, tasks
from adapters_xtl.sharing.bundle_record import BundleRecord, BundleScores
from adapters_xtl.tasks import Rows, Task

__all__ = ["model_index", "pipeline_tag"]


def pipeline_tag(record: BundleRecord) -> str:
    """The hub's name of what the module's head does; "" where it has none."""
    if not tasks.exists(record.task) or record.task not in record.labels:
        return ""
    format = tasks.load(record.task).format
    return formats.load(format).hub_task if format else ""


def model_index(record: BundleRecord, name: str) -> list[dict[str, Any]]:
    """The value of `model-index`: one model called `name`, with its results; [] without any."""
    results = [
        entry
        for task_name, scores in record.metrics.items()
        if record.data.source == "hub" and tasks.exists(task_name) and not scores.max_examples
        for entry in _entries(record, tasks.load(task_name), scores)
    ]
    return [{"name": name, "results": results}] if results else []


def _entries(record: BundleRecord, task: Task, scores: BundleScores) -> Iterator[dict[str, Any]]:
    scored_forms = record.data.report.get(task.name, ())
    for language, values in scores.languages.items():
        rows = _scored_rows(task, scores.split, language, scored_forms)
        if rows is None:  # it cannot be told which rows these were
            continue
        yield {
            "task": {
                "type": formats.load(task.format).hub_task or "other",
                "name": task.title,
            },
            "dataset": {
                "type": rows.repo,
                "name": f"{rows.repo} {rows.config} ({language})",
                "config": rows.config,
                "split": rows.split,
                **_revision(record, rows),
                "args": {"language": language, "protocol": scores.protocol},
            },
            "metrics": _metrics(values, scores),
        }


def _revision(record: BundleRecord, rows: Rows) -> dict[str, str]:
    revision = record.data.revisions.get(rows.repo, "")
    return {"revision": revision} if revision else {}


def _metrics(values: Mapping[str, Any], scores: BundleScores) -> list[dict[str, Any]]:
    """The language's metrics, the headline one first; each on a scale of 0 to 100."""
    names = sorted(values.keys() - {"n"}, key=lambda name: (name != scores.metric, name))
    remark = ", on rows that also chose the checkpoint" if scores.selected_on else ""
    return [
        {
            "type": name,
            "value": round(float(values[name]), 4),
            "name": f"{name} (0-100, {int(values['n'])} rows{remark})",
        }
        for name in names
    ]


def _scored_rows(task: Task, split: str, language: str, forms: tuple[str, ...]) -> Rows | None:
    """The one published form of a language's rows that was scored; None where several were."""
    candidates = [
        form.named(task.code(language))
        for rows in (task.report_rows(split) if task.reports(split) else ())
        for form in (rows, *rows.instead)
    ]
    scored = [rows for rows in candidates if str(rows) in forms]
    fits = len(scored) == 1 and re.fullmatch(r"[\w.-]+/[\w.-]+", scored[0].repo)
    return scored[0] if fits else None
