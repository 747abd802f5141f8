"""Finished runs of a cell as one row: means over seeds, gaps to full fine-tuning, averages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters_xtl import methods
from adapters_xtl.base.files import folder_bytes, read_json
from adapters_xtl.base.statistics import interval, paired
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.grid.cells import Cell, Variant
from adapters_xtl.metrics.xtreme.averages import means
from adapters_xtl.runs.outcome import Outcome, finished_directory
from adapters_xtl.runs.request import Plan
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import is_run, read_run

__all__ = ["Rows", "Scored", "averages", "differences", "row", "unequal"]

Rows = Mapping[Cell, dict[str, Any]]

# hyper-parameters whose differences between methods a reader must know of, beside the learning rate
_NAMED = (
    "epochs",
    "max_steps",
    "batch_size",
    "max_length",
    "max_examples",
    "warmup",
    "eval_every",
    "patience",
    "select_examples",
    "weight_decay",
    "dropout",
    "optimizer",
)


@dataclass(frozen=True)
class Scored:
    """One finished run of a cell: its seed, its plan, and the run in the store.

    analysis  what the cell's analysis found in its encoder, as that analysis' own record; None
              without one, and where it is not finished
    """

    seed: int
    plan: Plan
    outcome: Outcome
    analysis: Any = None


def _entry(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scores entry of a run's task; for several tasks, an entry that describes their mean."""
    entries: list[Mapping[str, Any]] = list(metrics["tasks"].values())
    if len(entries) == 1:
        return entries[0]
    return {
        "metric": "mean over tasks",
        "split": entries[0]["split"],
        "languages": {},
        "selected_on": max(entry.get("selected_on", 0) for entry in entries),
    }


def _stored(path: Path | None) -> int:
    """Bytes of a run's module and heads on disk."""
    return sum(folder_bytes(path / part) for part in ("module", "head")) if path else 0


def _trained(path: Path) -> dict[str, Any] | None:
    """The record of a training: its cost and parameters for a run, its parameters for a bundle."""
    trained: dict[str, Any] | None = (
        to_json(read_run(path).metrics.train)
        if is_run(path)
        else read_json(path / "bundle.json")["trained"]
    )
    return trained


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _score(values: Mapping[int, float], level: float) -> dict[str, Any]:
    """Mean, t-interval and the single values of seed → score."""
    bounds = interval(list(values.values()), level)
    return {
        "mean": _mean(list(values.values())),
        "interval": [bounds.low, bounds.high] if bounds else None,
        "n": len(values),
        "seeds": {str(seed): value for seed, value in values.items()},
    }


def row(
    runs: Sequence[Scored],
    store: Store,
    *,
    method: str,
    chain: Sequence[str],
    trains: bool,
    settings: str,
    chosen: Mapping[str, Any] | None,
    trials: Sequence[Mapping[str, Any]],
    level: float,
) -> dict[str, Any]:
    """One row, JSON-ready, of a cell's finished runs (at least one).

    `settings`: "given" or "default", recorded where nothing was tuned.
    `trains`: the last module was trained for it; otherwise that module is a parent, scored as it
    is. Bytes are those of files; `peak_memory_bytes` is the largest of the seeds, seconds the mean,
    examples_per_second all examples by all seconds. The cost columns are those of the module's own
    training, not of its parents'.
    """
    plan = runs[0].plan
    target = plan.target
    run = target.run if target else None
    compose = run.compose if run and run.parents else ""
    targets = [scored.plan.target for scored in runs if scored.plan.target]
    paths = [finished_directory(module, store) for module in targets]
    trained = [training for path in paths if path and (training := _trained(path))]
    costs = [training for training in trained if "seconds" in training]
    entries = [_entry(to_json(scored.outcome.metrics)) for scored in runs]
    entry, hyper = entries[0], run.identity()["hyper"] if run else None
    languages = {
        code: _mean([scores["languages"][code][entry["metric"]] for scores in entries])
        for code in entry["languages"]
    }
    return {
        "task": plan.task,
        "method": method if target else "none",
        "bits": run.bits if run else plan.bits,
        "dtype": run.dtype if run else plan.dtype,
        "parents": [module.task for module in plan.modules[: len(plan.modules) - trains]],
        "on": list(chain),
        "compose": compose,
        "composition": methods.load(run.method).compositions.get(compose, "") if run else "",
        "settings": settings if chosen is None else "tuned",
        "tuned": None if chosen is None else dict(chosen),
        "trials": [dict(trial) for trial in trials],
        "metric": entry["metric"],
        "split": entry["split"],
        "selected_on": entry.get("selected_on", 0),
        "score": _score({scored.seed: scored.outcome.score for scored in runs}, level),
        "languages": languages,
        "gap_to_full": None,
        "gain_over_no_parents": None,
        "gap_to_unquantised": None,
        "trained_task": target.task if target else None,
        "trainable_parameters": trained[0].get("trainable_parameters", 0) if trained else 0,
        "stored_bytes": round(_mean([_stored(path) for path in paths])) if paths else 0,
        "stack_bytes": (
            round(
                _mean(
                    [
                        sum(
                            _stored(finished_directory(part, store))
                            for part in (*module.below, module)
                        )
                        for module in targets
                    ]
                )
            )
            if targets
            else 0
        ),
        "peak_memory_bytes": max((cost["measured_peak_bytes"] for cost in costs), default=None),
        "seconds": _mean([cost["seconds"] for cost in costs]) if costs else None,
        "examples_per_second": _rate(costs),
        "energy_joules": _energy(costs),
        "hyper": {name: hyper[name] for name in ("lr", *_NAMED)} if hyper else None,
        "options": dict(run.options) if run else {},
        "runs": [
            {
                "seed": scored.seed,
                "run": f"{plan.task}/{scored.outcome.id}",
                "module": (
                    f"{scored.plan.target.task}/{scored.plan.target.id}"
                    if scored.plan.target
                    else None
                ),
                "score": scored.outcome.score,
                "reused": scored.outcome.reused,
                "seconds": scored.outcome.seconds,
            }
            for scored in runs
        ],
    }


def _rate(trained: Sequence[Mapping[str, Any]]) -> float | None:
    seconds = sum(training["seconds"] for training in trained)
    return sum(training["examples"] for training in trained) / seconds if seconds else None


def _energy(trained: Sequence[Mapping[str, Any]]) -> float | None:
    values = [training.get("energy_joules") for training in trained]
    return (
        _mean([float(value) for value in values if value is not None])
        if values and None not in values
        else None
    )


def _seeds(row: Mapping[str, Any], wanted: Iterable[int] = ()) -> dict[int, float]:
    """Seed → score of a row. A bare backbone has no seed: its one score stands for each of
    `wanted`.
    """
    scores = {int(seed): float(value) for seed, value in row["score"]["seeds"].items()}
    if row["method"] != "none":
        return scores
    return dict.fromkeys(wanted or scores, float(row["score"]["mean"]))


def differences(rows: Rows, level: float) -> None:
    """Fills in each row's differences to other rows, paired over the seeds that both have.

    `gap_to_full`: to full fine-tuning of the same task on the same parents.
    `gain_over_no_parents`: to the same method and bits without parents.
    `gap_to_unquantised`: at 8 or 4 bits, to the same method and parents at the lowest of 16 and 32
    bits that was run; its `bits` names which.
    """
    for cell, row in rows.items():
        if row["method"] == "none":
            continue
        scores = _seeds(row)
        full = _full(rows, cell)
        if full is not None and cell.variant.method != methods.REFERENCE:
            row["gap_to_full"] = _difference(scores, _seeds(full), level)
        alone = next((rows[other] for other in rows if _alike(cell, other, chain=())), None)
        if cell.chain and alone is not None:
            row["gain_over_no_parents"] = _difference(scores, _seeds(alone, scores), level)
        unquantised_rows = [
            rows[other]
            for other in rows
            if _alike(cell, other, bits=other.variant.bits) and rows[other]["bits"] > 8
        ]
        if row["bits"] <= 8 and unquantised_rows:
            unquantised = min(unquantised_rows, key=lambda other: int(other["bits"]))
            gap = _difference(scores, _seeds(unquantised), level)
            row["gap_to_unquantised"] = gap and {"bits": unquantised["bits"], **gap}


def _alike(
    cell: Cell,
    other: Cell,
    *,
    chain: tuple[str, ...] | None = None,
    method: str | None = None,
    bits: str | None = None,
) -> bool:
    """Whether `other` is what `cell` would be with another chain, method or bits."""
    variant = Variant(method or cell.variant.method, bits or cell.variant.bits)
    wanted = replace(
        cell,
        variant=variant,
        chain=cell.chain if chain is None else chain,
        # methods differ in how they may start from parents
        compose=other.compose if method else cell.compose,
    )
    return _key(wanted) == _key(other)


def _key(cell: Cell) -> tuple[Any, ...]:
    """What tells the cells of a grid apart. Without parents, what concerns them is left out."""
    parents = (cell.chain, cell.compose, cell.parent_overrides, cell.retained) if cell.chain else ()
    own = (cell.variant, cell.overrides, cell.from_layer, cell.analysis)
    return cell.task, parents, own, (cell.split, cell.languages)


def _full(rows: Rows, cell: Cell) -> dict[str, Any] | None:
    """The row of full fine-tuning on the same parents; of several, the first."""
    return next(
        (
            rows[other]
            for other in rows
            if _alike(cell, other, method=methods.REFERENCE, bits=other.variant.bits)
        ),
        None,
    )


def _difference(
    a: Mapping[int, float], b: Mapping[int, float], level: float
) -> dict[str, Any] | None:
    difference = paired(a, b, level)
    if difference is None:
        return None
    bounds = difference.interval
    return {
        "mean": difference.mean,
        "interval": [bounds.low, bounds.high] if bounds else None,
        "seeds": list(difference.seeds),
        "verdict": difference.verdict,
    }


def averages(rows: Rows, wanted: Sequence[str], level: float) -> list[dict[str, Any]]:
    """Means over tasks, with and without retrieval, for every method, bits and parents that have
    all of `wanted`.

    A bare backbone's row stands in under every method. Means are taken seed by seed, so that the
    interval is that of the average. `bits`: None where a memory budget gave the tasks different
    ones.
    """
    row_of = {_key(cell): row for cell, row in rows.items()}
    scores: list[tuple[Cell, dict[str, dict[int, float]], set[int]]] = []
    for first in rows:
        if first.task != next(iter(rows)).task:
            continue
        group = [
            row_of[key] for task in wanted if (key := _key(replace(first, task=task))) in row_of
        ]
        seeds_of_rows = [set(_seeds(row)) for row in group if row["method"] != "none"]
        seeds = sorted(set.intersection(*seeds_of_rows)) if seeds_of_rows else [0]
        if len(wanted) < 2 or len(group) < len(wanted) or not seeds:
            continue
        by_seed = {
            seed: means({row["task"]: _seeds(row, seeds)[seed] for row in group}) for seed in seeds
        }
        by_mean = {
            name: {seed: values[name] for seed, values in by_seed.items()}
            for name in by_seed[seeds[0]]
        }
        scores.append((first, by_mean, {row["bits"] for row in group}))
    entries: list[dict[str, Any]] = []
    for cell, by_mean, bits in scores:
        full = next(
            (
                means_of_full
                for other, means_of_full, _ in scores
                if cell.variant.method != methods.REFERENCE
                and _alike(cell, other, method=methods.REFERENCE, bits=other.variant.bits)
            ),
            {},
        )
        entries.append(
            {
                "method": cell.variant.method,
                "bits": min(bits) if len(bits) == 1 else None,
                "parents": list(cell.chain),
                "tasks": list(wanted),
                "point": {axis: value for axis, value in cell.point if axis != "task"},
                **{
                    name: {
                        **_score(by_seed, level),
                        "gap_to_full": (
                            _difference(by_seed, full[name], level) if name in full else None
                        ),
                    }
                    for name, by_seed in by_mean.items()
                },
            }
        )
    return entries


def unequal(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings other than the learning rate in which the rows of one task differ, one line a task
    and what trained it.
    """
    lines = []
    for task, trained in dict.fromkeys((row["task"], row["trained_task"]) for row in rows):
        alike = [
            row
            for row in rows
            if (row["task"], row["trained_task"]) == (task, trained) and row["hyper"]
        ]
        parts = [
            _differing(name, [(row["method"], _text(row["hyper"][name])) for row in alike])
            for name in _NAMED
        ]
        parts.append(
            _differing(
                "compute type",
                [(f"{row['method']} at {row['bits']} bits", row["dtype"]) for row in alike],
            )
        )
        if any(parts):
            by = "" if trained == task else f" by {trained}"
            lines.append(f"{task}{by}: the rows differ in {'; '.join(filter(None, parts))}")
    return lines


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _differing(name: str, values: Sequence[tuple[str, str]]) -> str:
    """The values of a setting with the rows that have them, `max_length 256 (full), 128 (lora)`;
    "" when all have the same.
    """
    rows_by_value: dict[str, dict[str, None]] = {}
    for row_name, value in values:
        rows_by_value.setdefault(value, {})[row_name] = None
    if len(rows_by_value) < 2:
        return ""
    parts = [f"{value} ({', '.join(names)})" for value, names in rows_by_value.items()]
    return f"{name} {', '.join(parts)}"
