"""Predictions → metrics, without a model: what a run scores, and what scores it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xtl import metrics
from adapters_xtl.base.errors import DataError
from adapters_xtl.tasks import Task

__all__ = ["entry", "intervals", "predictions", "score", "together"]


def predictions(run: Path, task: str, language: str) -> list[dict[str, Any]]:
    """What a run predicted for a task in a language. DataError for a file that cannot be read.

    A line ends at a line feed only: texts may hold Unicode's other line ends, and JSON writes those
    as they are.
    """
    path = run / "predictions" / task / f"{language}.jsonl"
    try:
        return [json.loads(line) for line in path.read_bytes().decode().split("\n") if line]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def score(task: Task, predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, Any]:
    """Metrics of one language on the 0-100 scale, with `n`, the number of predictions, from
    predictions alone.
    """
    if not predictions:
        raise DataError(f"{task.name}: nothing to score in {language}")
    scores = metrics.get(task.scorer).score(predictions, language)
    return {
        **{name: float(value) for name, value in scores.items() if name not in ("total", "n")},
        "n": len(predictions),
    }


def intervals(
    task: Task,
    predictions: Sequence[Mapping[str, Any]],
    language: str,
    *,
    resamples: int,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Metric → [low, high]: the 95 % percentile bootstrap interval of one language's scores, 0 to
    100.

    It covers the choice of the scored rows, not that of a seed or a checkpoint.
    """
    metric = metrics.get(task.scorer)
    bounds = metric.intervals(predictions, language, resamples=resamples, seed=seed)
    return {name: bound for name, bound in bounds.items() if name not in ("total", "n")}


def entry(task: Task, split: str, languages: Mapping[str, Any]) -> dict[str, Any]:
    """One task's part of metrics.json: its headline is the unweighted mean over languages."""
    mean = sum(scores[task.metric] for scores in languages.values()) / len(languages)
    return {"split": split, "metric": task.metric, "score": mean, "languages": dict(languages)}


def together(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Entries by task → metrics.json's "tasks" and "score", the unweighted mean over tasks."""
    mean = sum(entry["score"] for entry in entries.values()) / len(entries)
    return {"tasks": dict(entries), "score": mean}
