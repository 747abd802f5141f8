"""MLQA for `evaluate`; the plain functions are in `adapters_xtl.metrics.qa`."""

from __future__ import annotations

import evaluate

from adapters_xtl.metrics._wrap import PREDICTION, QUESTION, Rows, Scores, info
from adapters_xtl.metrics.bootstrap import with_interval
from adapters_xtl.metrics.qa import by_question
from adapters_xtl.metrics.qa import mlqa_items as items
from adapters_xtl.metrics.qa import mlqa_score as score

__all__ = ["Mlqa", "items", "score"]


class Mlqa(evaluate.Metric):  # type: ignore[misc]
    """`exact_match` and token `f1` of answers by MLQA's rules for their language, 0-100.

    predictions: {"id", "prediction_text"}; references: {"id", "answers": {"text", "answer_start"}};
    language: that of answers and contexts: en, es, hi, vi, de, ar or zh.
    """

    def _info(self) -> evaluate.MetricInfo:
        return info(str(self.__doc__), (PREDICTION, QUESTION))

    def _compute(
        self, predictions: Rows, references: Rows, language: str, resamples: int = 0, seed: int = 0
    ) -> Scores:
        return with_interval(
            items(*by_question(predictions, references), language), resamples, seed
        )
