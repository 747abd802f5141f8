"""XTREME's metrics: from predictions to scores, on a scale of 0 to 100.

A metric is one file of this folder: `metrics.get("squad")` gives its object, a `Metric`, and
`metrics.load("squad")` the same as an `evaluate.Metric`, made locally: nothing is looked up on a
hub. The files need numpy only; `xtreme/` holds the benchmark's averages and file layout. Wrong
input raises `adapters_xtl.base.errors.DataError`.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from adapters_xtl.base.errors import DataError, nearest
from adapters_xtl.base.extras import need
from adapters_xtl.base.files import public_files
from adapters_xtl.metrics._metric import Metric, Predictions

__all__ = ["Metric", "Predictions", "get", "load", "names"]


def names() -> tuple[str, ...]:
    """Names of all metrics, sorted: the files of this folder that do not begin with `_`."""
    return public_files(*__path__)


@cache
def get(name: str) -> Metric:
    """The metric `name`. DataError, with the nearest name, when there is none."""
    if name not in names():
        raise DataError(f"unknown metric '{name}'{nearest(name, names())}")
    metric: Metric = importlib.import_module(f"{__name__}.{name}").METRIC
    metric.name = name
    return metric


def load(name: str, **options: Any) -> Any:
    """The metric `name` as an `evaluate.Metric`. `options` go to its class (`experiment_id`, …).

    RequestError where the package `evaluate` is not installed.
    """
    need("metrics.load", "evaluate")
    from adapters_xtl.metrics._evaluate import as_evaluate_metric

    return as_evaluate_metric(get(name), **options)
