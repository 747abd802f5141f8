"""`xtl score`: the predictions of a finished run are scored again, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import tasks
from adapters_xtl.base.errors import RequestError, clipped
from adapters_xtl.base.numbers import parse_whole
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.evaluation import scoring
from adapters_xtl.pages import tables
from adapters_xtl.runs.store import Store, verify
from adapters_xtl.runs.stored_runs import is_run, read_run
from adapters_xtl.sharing import module_lookup

__all__ = ["score"]

Shown = list[Table | str]
MOST_RESAMPLES = 1_000_000
AGREES = 1e-9  # scores that differ by less are the recorded ones


def score(run: str, runs: str, bootstrap: str = "0") -> tuple[dict[str, Any], Shown]:
    """Scores a run's predictions and holds the score against what the run recorded.

    `bootstrap`: so many resamples of the predictions give a 95 % interval of every score; the
    payload has them as "intervals": task → language → metric → [low, high].
    """
    resamples = parse_whole(bootstrap)
    if resamples is None or not 0 <= resamples <= MOST_RESAMPLES:
        raise RequestError(
            f"--bootstrap {clipped(bootstrap)}: takes a number of resamples, 0 (no intervals) to"
            f" {MOST_RESAMPLES:,}"
        )
    path = module_lookup.find(run, Store(Path(runs)))
    if path is None or not is_run(path):
        what = "a bundle, which holds no predictions" if path else "no run directory and no run id"
        raise RequestError(f"{run}: {what}")
    verify(path, only=("predictions/",))
    recorded = to_json(read_run(path).metrics)
    if not recorded["tasks"]:
        raise RequestError(f"{run}: an untrained module; it has no predictions")
    entries: dict[str, Any] = {}
    intervals: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, entry in recorded["tasks"].items():
        task = tasks.load(name)
        scores = {}
        for language in entry["languages"]:
            predictions = scoring.predictions(path, name, language)
            scores[language] = scoring.score(task, predictions, language)
            if resamples:
                bounds = scoring.intervals(task, predictions, language, resamples=resamples)
                intervals.setdefault(name, {})[language] = bounds
        entries[name] = {**entry, **scoring.entry(task, entry["split"], scores)}
    metrics = scoring.together(entries)
    equal = abs(metrics["score"] - recorded["score"]) < AGREES
    payload = {
        "id": path.name,
        "path": str(path),
        "metrics": {**metrics, "train": recorded["train"]},
        "recorded": recorded["score"],
        "equal": equal,
        **({"intervals": intervals, "resamples": resamples} if resamples else {}),
    }
    comparison = "as recorded" if equal else f"recorded was {recorded['score']:.4f}"
    return payload, [
        *tables.result(metrics),
        *tables.intervals(metrics, intervals),
        f"scored from predictions alone: {metrics['score']:.4f}, {comparison}",
    ]
