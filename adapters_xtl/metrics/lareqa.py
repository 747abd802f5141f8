"""LAReQA for `evaluate`; the plain functions are in `adapters_xtl.metrics.ranking`."""

from __future__ import annotations

import evaluate

from adapters_xtl.metrics._wrap import TEXTS, Rows, Scores, info
from adapters_xtl.metrics.bootstrap import with_interval
from adapters_xtl.metrics.ranking import lareqa_data, lareqa_items, ranked_items

__all__ = ["Lareqa", "lareqa_data", "lareqa_items"]


class Lareqa(evaluate.Metric):  # type: ignore[misc]
    """Mean average precision of ranked answer sentences, `map@<k>` (`map` without a cut), 0-100.

    predictions: ranked candidate ids of each question; references: the relevant ones; k: the cut
    (0: none).
    """

    def _info(self) -> evaluate.MetricInfo:
        return info(str(self.__doc__), (TEXTS, TEXTS))

    def _compute(
        self, predictions: Rows, references: Rows, k: int = 20, resamples: int = 0, seed: int = 0
    ) -> Scores:
        found = ranked_items(predictions, references, range(len(references)), k=k)
        return with_interval(found, resamples, seed)
