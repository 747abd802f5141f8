"""Accuracy of tags, token by token (CCG supertagging)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from adapters_xtl.metrics._bootstrap import Items, mean_measure
from adapters_xtl.metrics._metric import Metric, Predictions
from adapters_xtl.metrics.tagging import token_items

__all__ = ["METRIC", "TokenAccuracy"]


class TokenAccuracy(Metric):
    """`accuracy`: tokens with the right tag among all tokens."""

    description = "Share of tokens tagged right; predictions and references: lists of tags."
    shapes = (("texts", "texts"),)

    def items(self, predictions: Predictions, language: str, **options: Any) -> list[Items]:
        tokens = token_items(
            [row["prediction"] for row in predictions], [row["gold"] for row in predictions]
        )
        return [replace(tokens, measure=mean_measure("accuracy"))]


METRIC = TokenAccuracy()
