"""A metric of this package as an `evaluate.Metric`. Importing `evaluate` takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from adapters_xtl.metrics._metric import Metric

__all__ = ["as_evaluate_metric"]

_TEXT = datasets.Value("string")
_SHAPES = {
    "text": _TEXT,
    "texts": datasets.Sequence(_TEXT),
    "integer": datasets.Value("int64"),
    "number": datasets.Value("float64"),
    "answer": {"id": _TEXT, "prediction_text": _TEXT},
    "question": {
        "id": _TEXT,
        "answers": datasets.Sequence({"text": _TEXT, "answer_start": datasets.Value("int32")}),
    },
}


class _Wrapped(evaluate.Metric):  # type: ignore[misc]
    def __init__(self, metric: Metric, **options: Any) -> None:
        self._metric = metric
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        features = [
            datasets.Features({"predictions": _SHAPES[left], "references": _SHAPES[right]})
            for left, right in self._metric.shapes
        ]
        return evaluate.MetricInfo(
            description=self._metric.description,
            citation="",
            inputs_description=f"{self._metric.description}\n{self._metric.compute.__doc__}",
            features=features if len(features) > 1 else features[0],
        )

    def _compute(
        self, predictions: Sequence[Any], references: Sequence[Any], **options: Any
    ) -> dict[str, Any]:
        return self._metric.compute(predictions, references, **options)


def as_evaluate_metric(metric: Metric, **options: Any) -> evaluate.Metric:
    """`options` go to `evaluate.Metric` (`experiment_id`, `num_process`, …). Rows are kept in
    memory unless `keep_in_memory=False` or `num_process` says otherwise, so that processes share no
    cache file.
    """
    options.setdefault("keep_in_memory", options.get("num_process", 1) == 1)
    return _Wrapped(metric, **options)
