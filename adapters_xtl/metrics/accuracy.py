"""Accuracy of labels: XNLI, PAWS-X, XCOPA, Tatoeba (rows as strings), every `classify` and `choice`
task.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics._bootstrap import Items, mean_measure
from adapters_xtl.metrics._metric import Metric, Predictions

__all__ = ["METRIC", "Accuracy", "items", "score"]


def items(
    predictions: Sequence[Hashable],
    references: Sequence[Hashable],
    *,
    strict: bool = True,
    ids: Sequence[Hashable] | None = None,
) -> Items:
    """Items with stats (correct, 1); ids are `ids` or row numbers. Arguments and errors as in
    `score`.
    """
    if strict and len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predictions for {len(references)} labels")
    keys = range(len(predictions)) if ids is None else ids
    if len(keys) != len(predictions):
        raise DataError(f"{len(keys)} ids for {len(predictions)} predictions")
    right = [float(p == r) for p, r in zip(predictions, references, strict=False)]
    stats = np.ones((len(predictions), 2))
    stats[:, 0] = 0.0
    stats[: len(right), 0] = right
    return Items(stats, mean_measure("accuracy"), keys)


def score(
    predictions: Sequence[Hashable], references: Sequence[Hashable], *, strict: bool = True
) -> dict[str, float]:
    """`{"accuracy"}`: 100 · equal pairs / predictions. Values are compared raw: 0 and "0" differ.

    Raises DataError when the lengths differ or nothing is predicted. `strict=False` gives what
    XTREME's bare function gives for unequal lengths: it stops at the shorter list, divides by the
    number of predictions.
    """
    return items(predictions, references, strict=strict).score()


class Accuracy(Metric):
    """`accuracy`: equal labels among all, compared as they are."""

    description = "Share of equal labels; predictions and references: all text or all integers."
    shapes = (("text", "text"), ("integer", "integer"))

    def items(self, predictions: Predictions, language: str, **options: Any) -> list[Items]:
        predicted = [row["prediction"] for row in predictions]
        return [items(predicted, [row["gold"] for row in predictions])]


METRIC = Accuracy()
