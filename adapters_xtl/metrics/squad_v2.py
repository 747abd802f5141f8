"""SQuAD 2.0 for `evaluate`; the plain functions are in `adapters_xtl.metrics.qa`."""

from __future__ import annotations

import evaluate

from adapters_xtl.metrics._wrap import PREDICTION, QUESTION, Rows, Scores, info
from adapters_xtl.metrics.bootstrap import with_interval
from adapters_xtl.metrics.qa import by_question
from adapters_xtl.metrics.qa import squad_v2_items as items
from adapters_xtl.metrics.qa import squad_v2_score as score

__all__ = ["SquadV2", "items", "score"]


class SquadV2(evaluate.Metric):  # type: ignore[misc]
    """`exact_match` and token `f1` by the rules of SQuAD 2.0, also as HasAns_… and NoAns_…, 0-100;
    counts.

    predictions: {"id", "prediction_text"}; references: {"id", "answers": {"text", "answer_start"}},
    both empty for a question without answer.
    """

    def _info(self) -> evaluate.MetricInfo:
        return info(str(self.__doc__), (PREDICTION, QUESTION))

    def _compute(
        self, predictions: Rows, references: Rows, resamples: int = 0, seed: int = 0
    ) -> Scores:
        rows = by_question(predictions, references)
        return with_interval(items(*rows), resamples, seed) | score(*rows)
