"""Exact match and F1 of answer spans where a question may have no answer: SQuAD 2.0.

Source of the rules: the official evaluation script of SQuAD 2.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adapters_xtl.metrics import squad
from adapters_xtl.metrics._bootstrap import Floats, Items, mean_measure
from adapters_xtl.metrics._metric import Predictions
from adapters_xtl.metrics.squad import (
    Answers,
    best_of_golds,
    normalise_squad,
    predicted_text,
    questions_of,
)

__all__ = ["METRIC", "SquadV2", "items", "score"]


def items(predictions: Mapping[str, str], references: Answers) -> Items:
    """Items, one a question, with stats (EM, F1, 1) of all, then of HasAns, then of NoAns
    questions.
    """
    questions = questions_of(references)
    stats = np.zeros((len(questions), 9))
    for row, (question, golds) in enumerate(questions):
        text = predicted_text(predictions, question)
        pair = (0.0, 0.0) if text is None else _best_v2(text, golds)
        stats[row, 0:3] = (*pair, 1.0)
        start = 3 if golds else 6
        stats[row, start : start + 3] = (*pair, 1.0)
    return Items(stats, _measure_v2, [question for question, _ in questions])


def _best_v2(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """(EM, F1), 0-1: gold texts that normalise to nothing are dropped; none left means
    "no answer".
    """
    kept = [gold for gold in golds if normalise_squad(gold)] or [""]
    if kept == [""] or not normalise_squad(prediction):
        exact = float(normalise_squad(prediction) in map(normalise_squad, kept))
        return exact, exact
    return best_of_golds(prediction, kept, normalise_squad)


def _measure_v2(sums: Floats) -> dict[str, Floats]:
    result = mean_measure("exact_match", "f1")(sums[..., 0:3])
    for name, start in (("HasAns", 3), ("NoAns", 6)):
        if np.any(sums[..., start + 2] > 0):
            result |= mean_measure(f"{name}_exact", f"{name}_f1")(sums[..., start : start + 3])
    return result


def score(predictions: Mapping[str, str], references: Answers) -> dict[str, float]:
    """SQuAD 2.0: EM and F1 over all questions, and over those with and without answers, 0-100.

    `{"exact_match", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total", "NoAns_…"}`; a
    group without questions has no entries, totals are counts. An empty gold list means that the
    question has no answer; the right prediction is then text that normalises to nothing, worth EM =
    F1 = 1, and any other is worth 0. A question without prediction counts as 0 (the official script
    leaves it out of the overall means). No threshold on a no-answer probability is searched. Raises
    DataError without questions.
    """
    scored_items = items(predictions, references)
    counts = scored_items.stats.sum(axis=0)
    totals = {"total": counts[2], "HasAns_total": counts[5], "NoAns_total": counts[8]}
    return scored_items.score() | {name: float(count) for name, count in totals.items() if count}


class SquadV2(squad.Squad):
    """`exact_match` and token `f1` of all, of HasAns_… and of NoAns_… questions; their numbers."""

    description = f"{squad.Squad.description} A question without answer has no gold text."

    def items(self, predictions: Predictions, language: str, **options: Any) -> list[Items]:
        return [items(*squad.answers_of(predictions))]

    def score(self, predictions: Predictions, language: str, **options: Any) -> dict[str, float]:
        return score(*squad.answers_of(predictions))


METRIC = SquadV2()
