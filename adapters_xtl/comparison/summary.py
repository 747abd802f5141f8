"""Finished runs → the rows of a comparison: means and intervals over seeds, gaps to full fine-tuning, averages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xtl import methods
from adapters_xtl.answer import from_store, has
from adapters_xtl.canon import read_json
from adapters_xtl.metrics.aggregate import means
from adapters_xtl.request import Module, Plan
from adapters_xtl.stats import interval, paired
from adapters_xtl.store import Store

__all__ = ["Scored", "averages", "differences", "row", "scored", "unequal"]

# hyper-parameters whose differences between methods a reader must know of, beside the learning rate
_NAMED = ("epochs", "max_steps", "batch_size", "max_length", "max_examples", "warmup", "eval_every", "patience",
          "select_examples", "weight_decay", "dropout", "optimizer")  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """One finished run of a cell. `trained`: what its metrics.json says of the training; None for a bare backbone."""

    seed: int
    id: str
    task: str
    reused: bool
    seconds: float
    score: float
    entry: Mapping[str, Any]  # of the task, or of the first of several, in metrics.json
    module: str  # task/id of the module that was scored; "" for a bare backbone
    trained: Mapping[str, Any] | None
    stored_bytes: int
    stack_bytes: int
    hyper: Mapping[str, Any]
    options: Mapping[str, Any]
    bits: int
    dtype: str
    compose: str
    composition: str
    parents: tuple[str, ...]  # their tasks, in order


def scored(planned: Plan, store: Store, *, seed: int, reused: bool, seconds: float, trains: bool) -> Scored:
    """The finished run of a plan, with the figures of the training that it stands on.

    `trains`: the plan's last module was trained for it; otherwise that module is a parent, scored as it is.
    """
    found = from_store(planned, store)
    assert found is not None
    target = planned.target
    path = has(target, store) if target else None
    run = target.run if target else None
    compose = run.compose if run and run.parents else ""
    return Scored(
        seed=seed, id=found.id, task=planned.task, reused=reused, seconds=seconds, score=float(found.metrics["score"]),
        entry=_entry(found.metrics), module=f"{target.task}/{target.id}" if target else "",
        trained=read_json(path / "metrics.json")["train"] if path else None,
        stored_bytes=_stored(path) if path else 0,
        stack_bytes=sum(_stored(each) for each in _stack(target, store)) if target else 0,
        hyper=run.identity()["hyper"] if run else {}, options=dict(run.options) if run else {},
        bits=run.bits if run else planned.bits, dtype=run.dtype if run else planned.dtype, compose=compose,
        composition=methods.load(run.method).COMPOSES.get(compose, "") if run else "",
        parents=tuple(module.task for module in planned.modules[: len(planned.modules) - trains]),
    )  # fmt: skip


def _entry(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    entries = list(metrics["tasks"].values())
    if len(entries) == 1:
        found: Mapping[str, Any] = entries[0]
        return found
    return {"metric": "mean over tasks", "split": entries[0]["split"], "languages": {},
            "selected_on": max(entry.get("selected_on", 0) for entry in entries)}  # fmt: skip


def _stored(path: Path) -> int:
    """Bytes of a run's module and heads on disk."""
    kept = read_json(path / "metrics.json")["train"] or {}
    if kept.get("stored_bytes"):
        return int(kept["stored_bytes"])
    return sum(file.stat().st_size for part in ("module", "head") for file in (path / part).rglob("*") if file.is_file())


def _stack(module: Module, store: Store) -> list[Path]:
    """Directories of every module that must be there to predict: the module's own, and the parents active below it."""
    below = module.parents
    if module.run.compose == "init":
        below = below[-1].parents if below and below[-1].run.compose != "init" else ()
    found = [has(each, store) for each in (*below, module)]
    return [path for path in found if path is not None]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _score(values: Mapping[int, float], level: float) -> dict[str, Any]:
    found = interval(list(values.values()), level)
    return {"mean": _mean(list(values.values())), "interval": [found.low, found.high] if found else None, "n": len(values),
            "seeds": {str(seed): value for seed, value in values.items()}}  # fmt: skip


def row(runs: Sequence[Scored], *, method: str, chain: Sequence[str], chosen: Mapping[str, Any] | None,
        trials: Sequence[Mapping[str, Any]], settings: str, level: float) -> dict[str, Any]:  # fmt: skip
    """One row, JSON-ready, of a cell's finished runs (at least one); `settings` is said of it where nothing was tuned.

    Bytes are those of files; `peak_memory_bytes` is the largest of the seeds, seconds the mean, examples_per_second all
    examples by all seconds. The cost columns are those of the module's own training, not of its parents'.
    """
    first = runs[0]
    entry, trained = first.entry, [run.trained for run in runs if run.trained]
    languages = {code: _mean([run.entry["languages"][code][entry["metric"]] for run in runs]) for code in entry["languages"]}
    found: dict[str, Any] = {
        "task": first.task, "method": method if first.module else "none", "bits": first.bits, "dtype": first.dtype,
        "parents": list(first.parents), "on": list(chain), "compose": first.compose, "composition": first.composition,
        "settings": settings if chosen is None else "tuned", "tuned": None if chosen is None else dict(chosen),
        "trials": [dict(trial) for trial in trials], "metric": entry["metric"], "split": entry["split"],
        "selected_on": entry.get("selected_on", 0), "score": _score({run.seed: run.score for run in runs}, level),
        "languages": languages, "gap_to_full": None, "gain_over_no_parents": None,
        "trained_task": first.module.partition("/")[0] or None,
        "trainable_parameters": trained[0]["trainable_parameters"] if trained else 0,
        "stored_bytes": round(_mean([run.stored_bytes for run in runs])),
        "stack_bytes": round(_mean([run.stack_bytes for run in runs])),
        "peak_memory_bytes": max((each["peak_memory_bytes"] for each in trained), default=None),
        "seconds": _mean([each["seconds"] for each in trained]) if trained else None,
        "examples_per_second": _rate(trained),
        "energy_joules": _energy(trained),
        "hyper": {"lr": first.hyper["lr"], **{name: first.hyper[name] for name in _NAMED}} if first.hyper else None,
        "options": dict(first.options),
        "runs": [{"seed": run.seed, "run": f"{run.task}/{run.id}", "module": run.module or None, "score": run.score,
                  "reused": run.reused, "seconds": run.seconds} for run in runs],
    }  # fmt: skip
    return found


def _rate(trained: Sequence[Mapping[str, Any]]) -> float | None:
    seconds = sum(each["seconds"] for each in trained)
    return sum(each["examples"] for each in trained) / seconds if seconds else None


def _energy(trained: Sequence[Mapping[str, Any]]) -> float | None:
    values = [each.get("energy_joules") for each in trained]
    return _mean([float(value) for value in values if value is not None]) if values and None not in values else None


def _seeds(found: Mapping[str, Any]) -> dict[int, float]:
    return {int(seed): value for seed, value in found["score"]["seeds"].items()}


def differences(rows: Sequence[dict[str, Any]], level: float) -> None:
    """Fills in each row's gap to full fine-tuning (same task, same parents) and its gain over the same without parents.

    Both are paired over the seeds that the two rows share.
    """
    for found in rows:
        for other in rows:
            if other is found or other["task"] != found["task"]:
                continue
            if other["method"] == "full" and other["on"] == found["on"] and found["method"] not in ("full", "none"):
                found["gap_to_full"] = _difference(_seeds(found), _seeds(other), level)
            alike = (other["method"], other["bits"]) == (found["method"], found["bits"])
            bare = other["method"] == "none" and other["bits"] == found["bits"]
            if found["on"] and not other["on"] and (alike or bare):
                scores = _seeds(other)
                if bare:  # an untrained backbone has no seed: its one score stands against each
                    scores = dict.fromkeys(_seeds(found), next(iter(scores.values())))
                found["gain_over_no_parents"] = _difference(_seeds(found), scores, level)


def _difference(a: Mapping[int, float], b: Mapping[int, float], level: float) -> dict[str, Any] | None:
    found = paired(a, b, level)
    if found is None:
        return None
    bounds = found.interval
    return {"mean": found.mean, "interval": [bounds.low, bounds.high] if bounds else None, "seeds": list(found.seeds),
            "verdict": found.verdict}  # fmt: skip


def averages(cells: Mapping[tuple[str, str, int, tuple[str, ...]], dict[str, Any]], wanted: Sequence[str], level: float
             ) -> list[dict[str, Any]]:  # fmt: skip
    """Means over tasks, with and without retrieval, for every (method, bits, parents) that has all of `wanted`.

    `cells`: (task, method, bits, parents) → row; a bare backbone's row stands in under every method. Means are taken
    seed by seed, so that the interval is that of the average.
    """
    groups = {key[1:]: None for key in cells}
    found: list[dict[str, Any]] = []
    scores: dict[tuple[Any, ...], dict[str, dict[int, float]]] = {}
    for group in groups:
        rows = [cells.get((task, *group)) for task in wanted]
        if len(wanted) < 2 or any(each is None for each in rows):
            continue
        by_task = {each["task"]: _seeds(each) for each in rows if each is not None}
        fixed = {task: next(iter(values.values())) for task, values in by_task.items()
                 if cells[(task, *group)]["method"] == "none"}  # fmt: skip
        seeds = sorted(set.intersection(*(set(values) for task, values in by_task.items() if task not in fixed))
                       if len(fixed) < len(by_task) else {0})  # fmt: skip
        per_seed = {seed: means({task: fixed.get(task, values.get(seed, math.nan)) for task, values in by_task.items()})
                    for seed in seeds}  # fmt: skip
        scores[group] = {name: {seed: values[name] for seed, values in per_seed.items()}
                         for name in next(iter(per_seed.values()), {})}  # fmt: skip
    for group, values in scores.items():
        method, bits, chain = group
        against = [other for key, other in scores.items() if key[0] == "full" and key[2] == chain and method != "full"]
        full = against[0] if against else {}
        found.append({
            "method": method, "bits": bits, "parents": list(chain), "tasks": list(wanted),
            **{name: {**_score(by, level), "gap_to_full": _difference(by, full[name], level) if name in full else None}
               for name, by in values.items()},
        })  # fmt: skip
    return found


def unequal(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings other than the learning rate in which the rows of one task differ, one line a task."""
    lines = []
    for task in dict.fromkeys(found["task"] for found in rows):
        own = [found for found in rows if found["task"] == task and found["hyper"]]
        parts = [_apart(name, {found["method"]: _text(found["hyper"][name]) for found in own}) for name in _NAMED]
        parts.append(_apart("compute type", {f"{found['method']} at {found['bits']} bits": found["dtype"] for found in own}))
        if any(parts):
            lines.append(f"{task}: the rows differ in {'; '.join(filter(None, parts))}")
    return lines


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _apart(name: str, values: Mapping[str, str]) -> str:
    """`max_length 256 (full), 128 (bottleneck, lora)`; "" when all are alike."""
    by: dict[str, list[str]] = {}
    for who, value in values.items():
        by.setdefault(value, []).append(who)
    return "" if len(by) < 2 else f"{name} " + ", ".join(f"{value} ({', '.join(who)})" for value, who in by.items())
