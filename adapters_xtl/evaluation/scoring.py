"""Predictions → metrics, without a model: what a run scores, and what scores it again."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters_xtl import metrics
from adapters_xtl.base import statistics
from adapters_xtl.base.errors import DataError
from adapters_xtl.base.files import read_regular
from adapters_xtl.metrics import Predictions
from adapters_xtl.metrics._bootstrap import (
    Items,
    paired_differences,
    paired_rows_differences,
    tails,
)
from adapters_xtl.tasks import Task

__all__ = [
    "ItemDifference",
    "compare_differences",
    "compare_runs",
    "difference_of_differences",
    "entry",
    "intervals",
    "item_difference",
    "predictions",
    "score",
    "together",
]


Floats = NDArray[np.float64]
Place = tuple[int, str]  # the number of a run and a language


# the id that a row without one is given when it is read: its number in the file
ROW_NUMBER = re.compile(r"#\d+")


@dataclass(frozen=True)
class ItemDifference:
    """The difference of two systems' scores on the same rows, with its paired bootstrap interval.

    mean       difference of the unweighted means over runs and languages, in points
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
        return [json.loads(line) for line in read_regular(path).decode().split("\n") if line]
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
    first: Sequence[Mapping[str, Predictions]],
    second: Sequence[Mapping[str, Predictions]],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    margin: float = 0.0,
) -> ItemDifference:
    """Compares what two systems predicted on the same rows: first - second.

    `first` and `second` are the systems' runs under the same seeds, in the same order: of each run
    its predictions by language. The score of a system is the mean over its runs and languages. Ids
    are drawn with replacement, for all runs and languages at once, so rows that are translations of
    each other stay together; rows without an id count by their place in the file. The interval
    covers the choice of the scored rows, not that of a seed. DataError where the rows differ.
    """
    mean, values, items = _resampled(task, first, second, resamples, seed)
    return _of_resamples(mean, values, items, level, margin)


def difference_of_differences(
    first: tuple[Task, Sequence[Mapping[str, Predictions]], Sequence[Mapping[str, Predictions]]],
    second: tuple[Task, Sequence[Mapping[str, Predictions]], Sequence[Mapping[str, Predictions]]],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    margin: float = 0.0,
) -> ItemDifference:
    """The difference between two differences as `item_difference` takes them, each of the task's
    rows that its two systems predicted: `first` minus `second`.

    The rows of the two differences are other rows, so each set of ids is drawn for itself; `items`
    is the number of both. DataError where the rows of one difference differ.
    """
    drawn = [
        _resampled(*difference, resamples, seed + number)
        for number, difference in enumerate((first, second))
    ]
    (mean, values, items), (other_mean, others, other_items) = drawn
    count = min(len(values), len(others))  # resamples that cannot be scored are left out
    return _of_resamples(
        mean - other_mean, values[:count] - others[:count], items + other_items, level, margin
    )


def _of_resamples(
    mean: float, values: Floats, items: int, level: float, margin: float
) -> ItemDifference:
    low, high = tails(values, level)
    resamples = len(values)
    conclusion = statistics.verdict(low, high, margin)
    return ItemDifference(mean, low, high, level, items, resamples, conclusion)


def _resampled(
    task: Task,
    first: Sequence[Mapping[str, Predictions]],
    second: Sequence[Mapping[str, Predictions]],
    resamples: int,
    seed: int,
) -> tuple[float, Floats, int]:
    """(the difference of two systems' scores, the same of each resample of the ids, the number of
    ids); see `item_difference`.
    """
    if not first or len(first) != len(second):
        raise DataError(
            f"{task.name}: {len(first)} runs against {len(second)}; takes pairs of runs of one seed"
        )
    sides: tuple[dict[Place, Predictions], dict[Place, Predictions]] = ({}, {})
    for number, pair in enumerate(zip(first, second, strict=True)):
        if set(pair[0]) != set(pair[1]) or not pair[0]:
            raise DataError(
                f"{task.name}: the two runs predicted other languages"
                f" ({', '.join(sorted(pair[0]))} and {', '.join(sorted(pair[1]))})"
            )
        for side, predictions in zip(sides, pair, strict=True):
            side.update({(number, language): rows for language, rows in predictions.items()})
    ids = {place: _ids(task, sides[0][place], sides[1][place], place[1]) for place in sides[0]}
    means = [
        sum(score(task, rows, place[1])[task.metric] for place, rows in side.items()) / len(side)
        for side in sides
    ]
    items = [
        {place: _headline_items(task, rows, place[1], ids[place]) for place, rows in side.items()}
        for side in sides
    ]
    summed = [{place: sums for place, sums in side.items() if sums is not None} for side in items]
    if all(len(side) == len(ids) for side in summed):
        values = paired_differences(summed[0], summed[1], resamples=resamples, seed=seed)
    else:
        metric = metrics.get(task.scorer)
        values = paired_rows_differences(
            *sides,
            ids,
            lambda rows, place: metric.score(rows, place[1]),
            resamples=resamples,
            seed=seed,
        )
    number_of_ids = len({key for keys in ids.values() for key in keys})
    return means[0] - means[1], values[task.metric], number_of_ids


def compare_runs(
    task: Task,
    first: Sequence[Path],
    second: Sequence[Path],
    *,
    resamples: int = 1000,
    seed: int = 0,
    margin: float = 0.0,
    leave_out: Collection[str] = (),
) -> ItemDifference:
    """`item_difference` of the predictions in run directories, over the languages that all of them
    have but those in `leave_out`. DataError where there is no such language.
    """
    of_first, of_second = _predictions_of_runs(task, first, second, leave_out)
    return item_difference(task, of_first, of_second, resamples=resamples, seed=seed, margin=margin)


# a task, and the run directories of two systems that were scored on it
Pairs = tuple[Task, Sequence[Path], Sequence[Path]]


def compare_differences(
    first: Pairs,
    second: Pairs,
    *,
    resamples: int = 1000,
    seed: int = 0,
    margin: float = 0.0,
    leave_out: Collection[str] = (),
) -> ItemDifference:
    """`difference_of_differences` of the predictions in run directories, each over the languages
    that its runs have but those in `leave_out`. DataError where there is no such language.
    """
    of_first, of_second = (
        (task, *_predictions_of_runs(task, runs, others, leave_out))
        for task, runs, others in (first, second)
    )
    return difference_of_differences(
        of_first, of_second, resamples=resamples, seed=seed, margin=margin
    )


def _predictions_of_runs(
    task: Task, first: Sequence[Path], second: Sequence[Path], leave_out: Collection[str]
) -> tuple[Sequence[Mapping[str, Predictions]], Sequence[Mapping[str, Predictions]]]:
    """What the runs of two systems predicted, in the languages that all of them have."""
    languages = [
        {path.stem for path in (run / "predictions" / task.name).glob("*.jsonl")}
        for run in (*first, *second)
    ]
    common = sorted(set.intersection(*languages) - set(leave_out)) if languages else []
    if not common:
        raise DataError(f"{task.name}: the runs have no predictions in a common language")
    of_first, of_second = (
        [{code: predictions(run, task.name, code) for code in common} for run in runs]
        for runs in (first, second)
    )
    return of_first, of_second


def _ids(task: Task, first: Predictions, second: Predictions, language: str) -> list[Hashable]:
    """What tells the rows of one language apart, and is the same for their translations: their ids,
    or for rows that came without one their places among the language's rows. DataError where the
    two runs scored others.
    """
    keys = [[row.get("id") for row in rows] for rows in (first, second)]
    golds = [[row.get("gold") for row in rows] for rows in (first, second)]
    if keys[0] != keys[1] or golds[0] != golds[1]:
        raise DataError(f"{task.name}, {language}: the two runs did not predict the same rows")
    # "#120" is a row number of a file that may hold several languages, one after the other
    return [
        place if key is None or ROW_NUMBER.fullmatch(str(key)) else key
        for place, key in enumerate(keys[0])
    ]


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
