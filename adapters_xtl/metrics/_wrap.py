"""What the `evaluate.Metric` modules share: their info and the shapes of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

Rows = Sequence[Any]
Scores = dict[str, Any]

TEXT, NUMBER = datasets.Value("string"), datasets.Value("int64")
TEXTS = datasets.Sequence(TEXT)
PREDICTION = {"id": TEXT, "prediction_text": TEXT}
QUESTION = {
    "id": TEXT,
    "answers": datasets.Sequence({"text": TEXT, "answer_start": datasets.Value("int32")}),
}

_INTERVAL = """
    resamples, seed: with resamples > 0 also "<metric>_interval": [low, high], the 95 %
    bootstrap interval.
"""


def info(usage: str, *shapes: tuple[Any, Any]) -> evaluate.MetricInfo:
    """MetricInfo for the possible shapes (prediction, reference) of a row; `usage` is a class's
    docstring.
    """
    features = [
        datasets.Features({"predictions": left, "references": right}) for left, right in shapes
    ]
    return evaluate.MetricInfo(
        description=usage.split("\n")[0],
        citation="",
        inputs_description=usage + _INTERVAL,
        features=features if len(features) > 1 else features[0],
    )
