"""Mewsli-X for `evaluate`; the plain functions are in `adapters_xtl.metrics.ranking`."""

from __future__ import annotations

import evaluate

from adapters_xtl.metrics._wrap import TEXTS, Rows, Scores, info
from adapters_xtl.metrics.bootstrap import with_interval
from adapters_xtl.metrics.ranking import mewslix_items as items
from adapters_xtl.metrics.ranking import mewslix_score as score

__all__ = ["Mewslix", "items", "score"]


class Mewslix(evaluate.Metric):  # type: ignore[misc]
    """Mean reciprocal rank cut at 20, XTREME-R's `map@20`, 0-100.

    predictions: ranked entities of each mention; references: gold entities of each mention, the
    first counts.
    """

    def _info(self) -> evaluate.MetricInfo:
        return info(str(self.__doc__), (TEXTS, TEXTS))

    def _compute(
        self, predictions: Rows, references: Rows, resamples: int = 0, seed: int = 0
    ) -> Scores:
        ranked = {str(row): entities for row, entities in enumerate(predictions)}
        golds = {str(row): entities for row, entities in enumerate(references)}
        return with_interval(items(ranked, golds), resamples, seed)
