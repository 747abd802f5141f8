"""Mewsli-X: mean reciprocal rank cut at 20, which XTREME-R calls map@20."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics._bootstrap import Items, mean_measure
from adapters_xtl.metrics._metric import Metric, Predictions

__all__ = ["CUT", "METRIC", "Mewslix", "items", "score"]

CUT = 20


def items(
    predictions: Mapping[str, Sequence[str]],
    references: Mapping[str, Sequence[str]],
    *,
    k: int = CUT,
) -> Items:
    """Items, one a mention, ids the mention ids, with stats (reciprocal rank or 0, 1)."""
    stats = np.ones((len(references), 2))
    for row, (mention, golds) in enumerate(references.items()):
        if not golds:
            raise DataError(f"mention {mention} has no gold entity")
        ranked, gold = list(predictions.get(mention, ()))[:k], golds[0].strip()
        stats[row, 0] = 1.0 / (ranked.index(gold) + 1) if gold in ranked else 0.0
    return Items(stats, mean_measure(f"map@{k}"), list(references))


def score(
    predictions: Mapping[str, Sequence[str]],
    references: Mapping[str, Sequence[str]],
    *,
    k: int = CUT,
) -> dict[str, float]:
    """`{"map@20"}`, 0-100: mention id → ranked entities against mention id → [gold, …].

    Only the first gold counts (stripped; predictions are not), so this is mean reciprocal rank cut
    at k. A mention without prediction counts as 0, extra ids are ignored; no mentions at all give
    0, as in XTREME's evaluator. Raises DataError for a mention with an empty gold list.
    """
    return items(predictions, references, k=k).score() if references else {f"map@{k}": 0.0}


class Mewslix(Metric):
    """`map@20` of ranked entities."""

    description = (
        "Mean reciprocal rank cut at 20; predictions: ranked entities of each mention; references:"
        " gold entities of each mention, the first counts."
    )
    shapes = (("texts", "texts"),)

    def items(self, predictions: Predictions, language: str, **options: Any) -> list[Items]:
        ranked = {str(number): row["prediction"] for number, row in enumerate(predictions)}
        golds = {str(number): row["gold"] for number, row in enumerate(predictions)}
        return [items(ranked, golds)]


METRIC = Mewslix()
