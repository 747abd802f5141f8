"""Chunk F1 of tags for `evaluate`; the plain functions are in `adapters_xtl.metrics.tags`."""

from __future__ import annotations

import evaluate

from adapters_xtl.metrics._wrap import TEXTS, Rows, Scores, info
from adapters_xtl.metrics.bootstrap import with_interval
from adapters_xtl.metrics.tags import chunks, items, score, token_items

__all__ = ["Tagging", "chunks", "items", "score", "token_items"]


class Tagging(evaluate.Metric):  # type: ignore[misc]
    """Micro chunk `f1`, `precision`, `recall`, 0-100 (PAN-X, UDPOS …).

    predictions, references: sentences, each a list of tags; rules: "0.0.12" (XTREME's numbers) or
    "1.2.2", the release of seqeval whose rules apply; tokens: whether to give `token_accuracy`,
    too.
    """

    def _info(self) -> evaluate.MetricInfo:
        return info(str(self.__doc__), (TEXTS, TEXTS))

    def _compute(
        self,
        predictions: Rows,
        references: Rows,
        rules: str = "0.0.12",
        tokens: bool = False,
        resamples: int = 0,
        seed: int = 0,
    ) -> Scores:
        result = with_interval(items(predictions, references, rules=rules), resamples, seed)
        if tokens:
            result |= with_interval(token_items(predictions, references), resamples, seed)
        return result
