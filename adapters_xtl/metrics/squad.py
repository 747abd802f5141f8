"""SQuAD 1.1 (XQuAD, TyDiQA) for `evaluate`; the plain functions are in
`adapters_xtl.metrics.qa`.
"""

from __future__ import annotations

import evaluate

from adapters_xtl.metrics._wrap import PREDICTION, QUESTION, Rows, Scores, info
from adapters_xtl.metrics.bootstrap import with_interval
from adapters_xtl.metrics.qa import by_question, items, score

__all__ = ["Squad", "items", "score"]


class Squad(evaluate.Metric):  # type: ignore[misc]
    """`exact_match` and token `f1` of answers by the rules of SQuAD 1.1, 0-100.

    predictions: {"id", "prediction_text"}; references: {"id", "answers": {"text", "answer_start"}}.
    """

    def _info(self) -> evaluate.MetricInfo:
        return info(str(self.__doc__), (PREDICTION, QUESTION))

    def _compute(
        self, predictions: Rows, references: Rows, resamples: int = 0, seed: int = 0
    ) -> Scores:
        return with_interval(items(*by_question(predictions, references)), resamples, seed)
