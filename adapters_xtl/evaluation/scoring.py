"""Predictions → metrics, without a model: what a run scores, and what scores it again."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xtl import metrics
from adapters_xtl.base import statistics
from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics import Predictions
from adapters_xtl.metrics._bootstrap import Items, paired_interval, paired_rows_interval
from adapters_xtl.tasks import Task

__all__ = [
    "ItemDifference",
    "entry",
    "intervals",
    "item_difference",
    "predictions",
    "score",
    "together",
]


@dataclass(frozen=True)
class ItemDifference:
    """The difference of two systems' scores on the same rows, with its paired bootstrap interval.

    mean       difference of the unweighted means over the languages, in points
    low, high  the percentile interval over items, of probability `level`
    items      ids that were drawn from: rows that are translations of each other are one item
    verdict    what the interval says; see `base.statistics.verdict`
    """

    mean: float
    low: float
    high: float
    level: float
    items: int
    resamples: int
    verdict: statistics.Verdict


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


def item_difference(
    task: Task,
    first: Mapping[str, Predictions],
    second: Mapping[str, Predictions],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    margin: float = 0.0,
) -> ItemDifference:
    """Compares what two runs predicted (language → predictions) on the same rows: first - second.

    Ids are drawn with replacement, for both runs and all languages at once, so rows that are
    translations of each other stay together; rows without an id count by their place in the file.
    The interval covers the choice of the scored rows, not that of a seed: take two runs of one
    seed. DataError where the rows differ.
    """
    if set(first) != set(second) or not first:
        raise DataError(
            f"{task.name}: the two runs predicted other languages"
            f" ({', '.join(sorted(first))} and {', '.join(sorted(second))})"
        )
    ids = {language: _ids(task, first[language], second[language], language) for language in first}
    metric = metrics.get(task.scorer)
    mean = sum(
        score(task, first[language], language)[task.metric]
        - score(task, second[language], language)[task.metric]
        for language in first
    ) / len(first)
    sides = [
        {language: _headline_items(task, rows, language, ids[language]) for language, rows in side}
        for side in (first.items(), second.items())
    ]
    if any(items is None for side in sides for items in side.values()):
        bounds = paired_rows_interval(
            first, second, ids, metric.score, resamples=resamples, level=level, seed=seed
        )
    else:
        items_of_first, items_of_second = (
            {language: items for language, items in side.items() if items} for side in sides
        )
        bounds = paired_interval(
            items_of_first, items_of_second, resamples=resamples, level=level, seed=seed
        )
    low, high = bounds[task.metric]
    return ItemDifference(
        mean=mean,
        low=low,
        high=high,
        level=level,
        items=len({key for keys in ids.values() for key in keys}),
        resamples=resamples,
        verdict=statistics.verdict(low, high, margin),
    )


def _ids(task: Task, first: Predictions, second: Predictions, language: str) -> list[Hashable]:
    """What tells the rows of one language apart. DataError where the two runs scored others."""
    keys = [
        [place if row.get("id") is None else row["id"] for place, row in enumerate(rows)]
        for rows in (first, second)
    ]
    golds = [[row.get("gold") for row in rows] for rows in (first, second)]
    if keys[0] != keys[1] or golds[0] != golds[1]:
        raise DataError(f"{task.name}, {language}: the two runs did not predict the same rows")
    return keys[0]


def _headline_items(
    task: Task, predictions: Predictions, language: str, ids: Sequence[Hashable]
) -> Items | None:
    """What is summed up for the task's metric, with the rows' own ids where an item is a row; None
    where the metric is no function of sums.
    """
    for group in metrics.get(task.scorer).items(predictions, language):
        if task.metric in group.measure(group.stats.sum(axis=0)):
            keys = ids if len(group.ids) == len(ids) else group.ids
            return Items(group.stats, group.measure, keys)
    return None


def entry(task: Task, split: str, languages: Mapping[str, Any]) -> dict[str, Any]:
    """One task's part of metrics.json: its headline is the unweighted mean over languages."""
    mean = sum(scores[task.metric] for scores in languages.values()) / len(languages)
    return {"split": split, "metric": task.metric, "score": mean, "languages": dict(languages)}


def together(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Entries by task → metrics.json's "tasks" and "score", the unweighted mean over tasks."""
    mean = sum(entry["score"] for entry in entries.values()) / len(entries)
    return {"tasks": dict(entries), "score": mean}
