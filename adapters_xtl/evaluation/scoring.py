"""Predictions → metrics, without a model: what a run scores, and what scores it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics import bitext, labels, qa, tags
from adapters_xtl.tasks import Task

__all__ = ["SCORERS", "entry", "predictions", "score", "together"]


def _accuracy(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(
        labels.score(
            [row["prediction"] for row in predictions], [row["gold"] for row in predictions]
        )
    )


def _tagging(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(
        tags.score(
            [row["prediction"] for row in predictions],
            [row["gold"] for row in predictions],
            tokens=True,
        )
    )


def _tokens(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    pairs = [
        (p, g) for row in predictions for p, g in zip(row["prediction"], row["gold"], strict=True)
    ]
    return {"accuracy": 100 * sum(p == g for p, g in pairs) / len(pairs)}


def _answers(
    predictions: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, str], dict[str, list[str]]]:
    return {row["id"]: row["prediction"] for row in predictions}, {
        row["id"]: row["gold"] for row in predictions
    }


def _squad(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(qa.score(*_answers(predictions)))


def _squad2(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(qa.squad_v2_score(*_answers(predictions)))


def _mlqa(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(qa.mlqa_score(*_answers(predictions), language))


def _tatoeba(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(
        labels.score(
            [row["prediction"] for row in predictions], [row["gold"] for row in predictions]
        )
    )


def _bucc(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    found = {
        f"{row['source_id']}\t{row['target_id']}": row["score"]
        for row in predictions
        if "score" in row
    }
    gold = {f"{row['source_id']}\t{row['target_id']}" for row in predictions if row["gold"]}
    # XTREME's own number is tuned on the gold it is scored on; its keys lose the suffix, the task's
    # notes say what it is
    return {
        name.removesuffix("_upper_bound"): float(value)
        for name, value in bitext.report(found, gold).items()
    }


SCORERS: Mapping[str, Callable[[Sequence[Mapping[str, Any]], str], dict[str, float]]] = {
    "accuracy": _accuracy,
    "tagging": _tagging,
    "token_accuracy": _tokens,
    "squad": _squad,
    "squad2": _squad2,
    "mlqa": _mlqa,
    "tatoeba": _tatoeba,
    "bucc": _bucc,
}


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
    found = SCORERS[task.scorer](predictions, language)
    return {
        **{name: value for name, value in found.items() if name not in ("total", "n")},
        "n": len(predictions),
    }


def entry(task: Task, split: str, languages: Mapping[str, Any]) -> dict[str, Any]:
    """One task's part of metrics.json: its headline is the unweighted mean over languages."""
    mean = sum(scores[task.metric] for scores in languages.values()) / len(languages)
    return {"split": split, "metric": task.metric, "score": mean, "languages": dict(languages)}


def together(found: Mapping[str, Any]) -> dict[str, Any]:
    """Entries by task → metrics.json's "tasks" and "score", the unweighted mean over tasks."""
    return {
        "tasks": dict(found),
        "score": sum(each["score"] for each in found.values()) / len(found),
    }
