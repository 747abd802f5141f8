"""XTREME's metrics as plain numpy functions, also wrapped as `evaluate.Metric`.

The functions live in modules that import neither `evaluate` nor torch: `labels`, `tags`, `qa`,
`bitext`, `mining` (imports faiss), `ranking`, and `files`, `aggregate`, `bootstrap` on top. Each
metric module named in METRICS wraps one of them for `evaluate` (whose import takes seconds);
importing this package imports none.

Every score is on a 0-100 scale. Wrong input raises `adapters_xtl.base.errors.DataError`.
"""

from __future__ import annotations

import importlib
from typing import Any

from adapters_xtl.base.errors import DataError, nearest

__all__ = ["METRICS", "load"]

METRICS = {
    "accuracy": "accuracy:Accuracy",
    "tagging": "tagging:Tagging",
    "squad": "squad:Squad",
    "squad_v2": "squad_v2:SquadV2",
    "mlqa": "mlqa:Mlqa",
    "bucc": "bucc:Bucc",
    "tatoeba": "accuracy:Accuracy",
    "mewslix": "mewslix:Mewslix",
    "lareqa": "lareqa:Lareqa",
}


def load(name: str, **options: Any) -> Any:
    """The `evaluate.Metric` called `name` (a key of METRICS), made locally: nothing is looked up on
    a hub.

    `options` go to `evaluate.Metric` (`experiment_id`, `num_process`, …). Rows are kept in memory
    unless `keep_in_memory=False` or `num_process` says otherwise, so that processes share no cache
    file. Raises DataError for an unknown name.
    """
    if name not in METRICS:
        raise DataError(f"unknown metric {name!r}{nearest(name, METRICS)}")
    module, _, class_name = METRICS[name].partition(":")
    options.setdefault("keep_in_memory", options.get("num_process", 1) == 1)
    return getattr(importlib.import_module(f"{__name__}.{module}"), class_name)(**options)
