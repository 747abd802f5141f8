"""Pearson's correlation of predicted and gold numbers, times 100; 0 where one of them is constant."""

import numpy as np

from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics import Metric


class Pearson(Metric):
    description = "Pearson's correlation times 100; predictions and references: numbers."
    shapes = (("number", "number"),)

    def score(self, predictions, language, **options):
        if len(predictions) < 2:
            raise DataError("a correlation needs two predictions")
        predicted = np.array([row["prediction"] for row in predictions])
        gold = np.array([row["gold"] for row in predictions])
        if predicted.std() == 0 or gold.std() == 0:
            return {"pearson": 0.0}
        return {"pearson": float(100 * np.corrcoef(predicted, gold)[0, 1])}


METRIC = Pearson()
