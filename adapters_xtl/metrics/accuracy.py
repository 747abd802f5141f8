"""Accuracy for `evaluate`; the plain functions are in `adapters_xtl.metrics.labels`."""

from __future__ import annotations

import evaluate

from adapters_xtl.metrics._wrap import NUMBER, TEXT, Rows, Scores, info
from adapters_xtl.metrics.bootstrap import with_interval
from adapters_xtl.metrics.labels import items, score

__all__ = ["Accuracy", "items", "score"]


class Accuracy(evaluate.Metric):  # type: ignore[misc]
    """Share of equal labels, `accuracy`, 0-100 (XNLI, PAWS-X, XCOPA, Tatoeba …).

    predictions, references: labels, all text or all integers, compared as they are.
    """

    def _info(self) -> evaluate.MetricInfo:
        return info(str(self.__doc__), (TEXT, TEXT), (NUMBER, NUMBER))

    def _compute(
        self, predictions: Rows, references: Rows, resamples: int = 0, seed: int = 0
    ) -> Scores:
        return with_interval(items(predictions, references), resamples, seed)
