"""BUCC for `evaluate`; the plain functions are in `adapters_xtl.metrics.bitext`."""

from __future__ import annotations

import evaluate

from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics._wrap import TEXTS, Rows, Scores, info
from adapters_xtl.metrics.bitext import items, report, score
from adapters_xtl.metrics.bootstrap import with_interval

__all__ = ["Bucc", "items", "report", "score"]


class Bucc(evaluate.Metric):  # type: ignore[misc]
    """`f1`, `precision`, `recall` of mined sentence pairs, 0-100.

    predictions, references: one list each (the sides differ in number), the accepted and the gold
    pairs of one language, each a text "source-id TAB target-id". Intervals are clustered by source
    sentence.
    """

    def _info(self) -> evaluate.MetricInfo:
        return info(str(self.__doc__), (TEXTS, TEXTS))

    def _compute(
        self, predictions: Rows, references: Rows, resamples: int = 0, seed: int = 0
    ) -> Scores:
        if len(predictions) != 1:
            raise DataError(
                f"BUCC is scored one language at a time, not {len(predictions)} lists of pairs"
            )
        return with_interval(items(predictions[0], references[0]), resamples, seed)
